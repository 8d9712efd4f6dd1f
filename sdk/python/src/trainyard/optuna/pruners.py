"""Schedulers by the names that Optuna gives its pruners, with their meaning in steps."""

from __future__ import annotations

from typing import Any, Dict, Optional, Union

from .._instead import lacking
from .._settings import Pruner, without_effect

BasePruner = Pruner

# Rungs of successive halving without a known end: each has `reduction_factor` times the steps of the one before.
RUNGS = 10


def NopPruner() -> Pruner:
    """None."""
    return Pruner(None)


def MedianPruner(
    n_startup_trials: int = 5,
    n_warmup_steps: int = 0,
    interval_steps: int = 1,
    **options: Any,
) -> Pruner:
    """`median_stopping`: stops what is worse than the median of others at the same step."""
    without_effect("MedianPruner", options)
    return Pruner(
        {
            "name": "median_stopping",
            "min_trials": max(1, n_startup_trials),
            "grace_period": n_warmup_steps + 1,
            "interval": interval_steps,
        }
    )


def SuccessiveHalvingPruner(
    min_resource: Union[str, int] = "auto",
    reduction_factor: int = 4,
    min_early_stopping_rate: int = 0,
    bootstrap_count: int = 0,
) -> Pruner:
    """`asha` whose trials run on or stop.

    Raises:
        ValueError: `bootstrap_count` is not 0.
    """
    if bootstrap_count:
        raise ValueError(f"bootstrap_count is {bootstrap_count}, expected 0")
    first = 1 if isinstance(min_resource, str) else min_resource
    first *= reduction_factor**min_early_stopping_rate
    last = first * reduction_factor**RUNGS
    return Pruner(
        {"name": "asha", "min_resource": first, "max_resource": last, "eta": reduction_factor}
    )


def HyperbandPruner(
    min_resource: int = 1,
    max_resource: Union[str, int] = "auto",
    reduction_factor: int = 3,
    bootstrap_count: int = 0,
) -> Pruner:
    """`async_hyperband`, whose trials run on or stop.

    Raises:
        ValueError: `max_resource` is no number, or `bootstrap_count` not 0.
    """
    if not isinstance(max_resource, int):
        raise ValueError(
            f"max_resource is {max_resource!r}, expected the number of steps of a whole trial"
        )
    if bootstrap_count:
        raise ValueError(f"bootstrap_count is {bootstrap_count}, expected 0")
    return Pruner(
        {
            "name": "async_hyperband",
            "min_resource": min_resource,
            "max_resource": max_resource,
            "eta": reduction_factor,
        }
    )


def ThresholdPruner(
    lower: Optional[float] = None,
    upper: Optional[float] = None,
    n_warmup_steps: int = 0,
    interval_steps: int = 1,
) -> Pruner:
    """`early_stopping` at a value beyond what is still of use: above `upper` (minimize), below `lower` (maximize).

    Raises:
        ValueError: neither is given.
    """
    bounds: Dict[str, float] = {}
    if upper is not None:
        bounds["minimize"] = upper
    if lower is not None:
        bounds["maximize"] = lower
    if not bounds:
        raise ValueError("neither lower nor upper is given, expected one of them")
    fields = {
        "name": "early_stopping",
        "grace_period": n_warmup_steps + 1,
        "interval": interval_steps,
    }
    return Pruner(fields, bounds)


def PatientPruner(
    wrapped_pruner: Optional[Pruner], patience: int, min_delta: float = 0.0
) -> Pruner:
    """`early_stopping` after `patience` steps without improvement.

    Raises:
        ValueError: it is to wrap a pruner.
    """
    if wrapped_pruner is not None:
        raise ValueError("wrapped_pruner is given, expected None: a study has one scheduler")
    return Pruner(
        {"name": "early_stopping", "patience": max(1, patience), "min_delta": float(min_delta)}
    )


_INSTEAD = {"PercentilePruner": "MedianPruner", "WilcoxonPruner": "MedianPruner"}


def __getattr__(name: str) -> Any:
    raise lacking(__name__, name, _INSTEAD)
