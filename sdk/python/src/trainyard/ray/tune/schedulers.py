"""`ray.tune.schedulers`: fields of a spec's scheduler. A report is an iteration."""

from __future__ import annotations

import math
from typing import Any, Dict, Mapping, Optional, Sequence

from ..._instead import lacking
from ..._settings import without_effect


def ASHAScheduler(
    time_attr: str = "training_iteration",
    metric: Optional[str] = None,
    mode: Optional[str] = None,
    max_t: int = 100,
    grace_period: int = 1,
    reduction_factor: float = 4,
    brackets: int = 1,
    **options: Any,
) -> Dict[str, Any]:
    """`asha`, whose trials run on or stop. A report is an iteration."""
    without_effect("ASHAScheduler", options)
    return {
        "name": "asha",
        "variant": "stopping",
        "min_resource": grace_period,
        "max_resource": max_t,
        "eta": math.ceil(reduction_factor),
        "brackets": brackets,
        **_judged(metric, mode),
    }


AsyncHyperBandScheduler = ASHAScheduler


def HyperBandScheduler(
    time_attr: str = "training_iteration",
    metric: Optional[str] = None,
    mode: Optional[str] = None,
    max_t: int = 81,
    reduction_factor: float = 3,
    **options: Any,
) -> Dict[str, Any]:
    """`hyperband`, whose trials wait at rungs and go on from their checkpoints."""
    without_effect("HyperBandScheduler", options)
    fields = {"name": "hyperband", "max_resource": max_t, "eta": math.ceil(reduction_factor)}
    return {**fields, **_judged(metric, mode)}


def MedianStoppingRule(
    time_attr: str = "training_iteration",
    metric: Optional[str] = None,
    mode: Optional[str] = None,
    grace_period: int = 60,
    min_samples_required: int = 3,
    **options: Any,
) -> Dict[str, Any]:
    """`median_stopping`; `grace_period` in iterations."""
    without_effect("MedianStoppingRule", options)
    fields = {
        "name": "median_stopping",
        "grace_period": max(1, int(grace_period)),
        "min_trials": max(1, min_samples_required),
    }
    return {**fields, **_judged(metric, mode)}


def PopulationBasedTraining(
    time_attr: str = "training_iteration",
    metric: Optional[str] = None,
    mode: Optional[str] = None,
    perturbation_interval: float = 60.0,
    hyperparam_mutations: Optional[Mapping[str, Any]] = None,
    quantile_fraction: float = 0.25,
    resample_probability: float = 0.25,
    perturbation_factors: Sequence[float] = (1.2, 0.8),
    synch: bool = False,
    **options: Any,
) -> Dict[str, Any]:
    """`pbt`, whose last iteration is that of `RunConfig(stop={"training_iteration": n})`.

    The population is `num_samples`. `hyperparam_mutations` are ranges of this module or lists, and all ranges of the
    search.
    """
    without_effect("PopulationBasedTraining", options)
    return {
        "name": "pbt",
        "interval": max(1, int(perturbation_interval)),
        "quantile": quantile_fraction,
        "resample_probability": resample_probability,
        "perturb_factors": sorted(perturbation_factors),
        "synchronous": synch,
        MUTATIONS: dict(hyperparam_mutations or {}),
        **_judged(metric, mode),
    }


def FIFOScheduler() -> None:
    """None: every trial runs to its end."""


def _judged(metric: Optional[str], mode: Optional[str]) -> Dict[str, Any]:
    # Not the spec's: `Tuner` takes them out again.
    return {} if metric is None else {"metric": metric, "mode": mode or "max"}


# Of the space, and not the spec's: `Tuner` takes them out again.
MUTATIONS = "hyperparam_mutations"
_FIELDS = "the scheduler's fields of a spec, such as TuneConfig(scheduler={'name': 'pb2', 'max_resource': 100})"
_INSTEAD = {
    "PopulationBasedTrainingReplay": "nothing",
    "HyperBandForBOHB": "HyperBandScheduler and TuneConfig(search_alg='bohb')",
    "pb2": _FIELDS,
    "ResourceChangingScheduler": "nothing: a trial's slots are fixed",
}


def __getattr__(name: str) -> Any:
    raise lacking(__name__, name, _INSTEAD)


__all__ = [
    "ASHAScheduler",
    "AsyncHyperBandScheduler",
    "FIFOScheduler",
    "HyperBandScheduler",
    "MedianStoppingRule",
    "PopulationBasedTraining",
]
