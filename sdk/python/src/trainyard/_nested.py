"""Names with dots, and the mappings within mappings that they stand for."""

from __future__ import annotations

from typing import Any, Callable, Dict, Mapping


def unflatten(params: Mapping[str, Any]) -> Dict[str, Any]:
    """`{"model.lr": 1}` as `{"model": {"lr": 1}}`."""
    found: Dict[str, Any] = {}
    for name, value in params.items():
        *above, last = name.split(".")
        at = found
        for part in above:
            at = at.setdefault(part, {})
        at[last] = value
    return found


def flatten(
    space: Mapping[str, Any], is_leaf: Callable[[Mapping[str, Any]], bool], prefix: str = ""
) -> Dict[str, Any]:
    """`unflatten`, the other way round."""
    found: Dict[str, Any] = {}
    for name, value in space.items():
        if isinstance(value, Mapping) and not is_leaf(value):
            found.update(flatten(value, is_leaf, f"{prefix}{name}."))
        else:
            found[f"{prefix}{name}"] = value
    return found
