"""What a module that stands for another library's has not, told with what does the same here."""

from __future__ import annotations

from typing import Mapping


def lacking(module: str, name: str, instead: Mapping[str, str]) -> AttributeError:
    """Of a name that is asked of a module: the error, with the way out where one is known."""
    if name in instead:
        return AttributeError(f"{module} has no {name}; instead: {instead[name]}")
    return AttributeError(f"module {module!r} has no attribute {name!r}")
