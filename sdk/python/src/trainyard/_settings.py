"""A study's sampler and pruner, as names and fields of a spec or as objects of Optuna's names."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

from . import _values
from ._log import warn_once

# Schedulers whose trials run on or stop, as an objective can: it cannot wait and go on later.
PRUNERS = ("auto", "asha", "async_hyperband", "early_stopping", "median_stopping")
# Where nothing else says it.
DEFAULT_SAMPLER = "auto"


@dataclass(frozen=True)
class Sampler:
    """A searcher by the name that Optuna gives it."""

    name: str
    seed: Optional[int] = None


@dataclass(frozen=True)
class Pruner:
    """A scheduler by the name that Optuna gives it; `None`: none.

    Attributes:
        fields: of the scheduler, whatever the direction.
        bounds: `threshold` where it is minimized, and where it is maximized.
    """

    fields: Optional[Mapping[str, Any]]
    bounds: Dict[str, float] = field(default_factory=dict)


def sampler(given: Union[None, str, Sampler]) -> Tuple[str, int]:
    """The searcher's name, and its seed.

    Raises:
        TypeError: it is none.
    """
    if given is None:
        return DEFAULT_SAMPLER, 0
    if isinstance(given, Sampler):
        return given.name, given.seed or 0
    return _values.text("sampler", given), 0


def scheduler(given: Any, modes: Sequence[str]) -> Optional[Dict[str, Any]]:
    """The scheduler's fields of a pruner.

    Raises:
        TypeError, ValueError: it is none whose trials run on or stop.
    """
    if isinstance(given, Pruner):
        given = _of_pruner(given, modes)
    if given is None:
        return None
    if len(modes) > 1:
        raise ValueError("a pruner is given, expected none with several objectives")
    fields = {"name": given} if isinstance(given, str) else given
    if not isinstance(fields, Mapping):
        raise TypeError(
            f"pruner is of type {type(given).__name__}, expected a name or a mapping of a scheduler's fields"
        )
    name = fields.get("name")
    if name not in PRUNERS:
        raise ValueError(
            f"pruner is {name!r}, expected one of {PRUNERS}: other schedulers pause trials and go on "
            "later, which an objective cannot"
        )
    if name not in ("asha", "async_hyperband"):
        return dict(fields)
    if fields.get("variant", "stopping") != "stopping":
        raise ValueError(f"variant of the pruner is {fields['variant']!r}, expected 'stopping'")
    return {**fields, "variant": "stopping"}


def _of_pruner(given: Pruner, modes: Sequence[str]) -> Optional[Dict[str, Any]]:
    if given.fields is None or not given.bounds:
        return None if given.fields is None else dict(given.fields)
    bound = given.bounds.get(modes[0])
    if bound is None:
        word = "upper" if modes[0] == "minimize" else "lower"
        raise ValueError(f"a study that is to {modes[0]} needs the pruner's {word} bound")
    return {**given.fields, "threshold": bound}


def without_effect(what: str, options: Mapping[str, Any]) -> None:
    """Says once of options that nothing here corresponds to."""
    names: List[str] = sorted(options)
    if names:
        warn_once(f"{what} {names}", f"{what}: {', '.join(names)} have no effect here")
