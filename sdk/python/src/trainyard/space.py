"""The ranges of a search, as a spec has them (docs/reference.md, "Searchers"): each call gives a plain mapping.

space = {
    "lr": ty.space.loguniform(1e-4, 1e-1),
    "layers": ty.space.integer(1, 4),
    "optimizer": ["adam", "sgd"],        # one of a list
    "momentum": ty.space.uniform(0.8, 0.99, when={"optimizer": ["sgd"]}),
    "epochs": 9,                         # always the same
}
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence

from . import _space, _values

Conditions = Mapping[str, Sequence[Any]]


def uniform(
    low: float, high: float, *, step: Optional[float] = None, when: Optional[Conditions] = None
) -> Dict[str, Any]:
    """A number from `low` to `high`, both included.

    Args:
        step: only `low`, `low + step`, ...
        when: active only where other hyperparameters have one of these values.

    Raises:
        TypeError, ValueError: no such range.
    """
    return _range(low, high, whole=False, log=False, step=step, when=when)


def loguniform(low: float, high: float, *, when: Optional[Conditions] = None) -> Dict[str, Any]:
    """A number from `low` to `high`, spread evenly over its logarithm; as `uniform`."""
    return _range(low, high, whole=False, log=True, step=None, when=when)


def integer(
    low: int, high: int, *, step: int = 1, log: bool = False, when: Optional[Conditions] = None
) -> Dict[str, Any]:
    """A whole number from `low` to `high`, both included; as `uniform`."""
    return _range(low, high, whole=True, log=log, step=step, when=when)


def choice(values: Sequence[Any], *, when: Optional[Conditions] = None) -> Dict[str, Any]:
    """One of `values`: texts, numbers, booleans.

    Raises:
        TypeError, ValueError: they are none.
    """
    return _with({"type": "categorical", "vals": _listed("values", values)}, when)


def ordinal(values: Sequence[Any], *, when: Optional[Conditions] = None) -> Dict[str, Any]:
    """One of `values`, whose order means something; as `choice`."""
    return _with({"type": "ordinal", "vals": _listed("values", values)}, when)


def hyperparameters(space: Any) -> Dict[str, Any]:
    """The `hyperparameters` of a spec: mappings as above, lists as choices, everything else as constants.

    Raises:
        TypeError: `space` is no mapping, or a value is of no kind that a spec has.
    """
    if not isinstance(space, Mapping):
        raise TypeError(
            f"space is {space!r:.80} ({type(space).__name__}), expected a mapping of names to ranges"
        )
    return {_values.text("a hyperparameter's name", k): _entry(k, v) for k, v in space.items()}


def _entry(name: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (list, tuple)):
        return choice(value)
    if isinstance(value, (bool, int, float, str)):
        return {"type": "const", "val": value}
    item = getattr(value, "item", None)
    if item is not None:
        return _entry(name, item())
    raise TypeError(
        f"{name!r} of the space is {value!r:.80} ({type(value).__name__}), expected a range of "
        "trainyard.space, a list of choices, or a number, text or boolean"
    )


def _range(
    low: Any, high: Any, *, whole: bool, log: bool, step: Any, when: Optional[Conditions]
) -> Dict[str, Any]:
    known = _space.numeric("the range", low, high, whole=whole, log=log, step=step)
    return _with(known.spec(), when)


def _listed(what: str, values: Any) -> List[Any]:
    if isinstance(values, (str, bytes)) or not isinstance(values, (list, tuple, range)):
        raise TypeError(f"{what} is {values!r:.80} ({type(values).__name__}), expected a list")
    if not values:
        raise ValueError(f"{what} is empty, expected at least one")
    return list(values)


def _with(entry: Dict[str, Any], when: Optional[Conditions]) -> Dict[str, Any]:
    if when is not None:
        entry["when"] = {name: list(values) for name, values in when.items()}
    return entry
