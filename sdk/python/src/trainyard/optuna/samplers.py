"""Searchers by the names that Optuna gives its samplers. Of their options only the seed is taken."""

from __future__ import annotations

from typing import Any, Callable, Optional

from .._instead import lacking
from .._settings import Sampler, without_effect

BaseSampler = Sampler


def _named(name: str, searcher: str) -> Callable[..., Sampler]:
    def made(*_: Any, seed: Optional[int] = None, **options: Any) -> Sampler:
        without_effect(name, options)
        return Sampler(searcher, seed)

    made.__name__ = name
    made.__doc__ = (
        f"The searcher `{searcher}`; options but `seed` have no effect, which is told once."
    )
    return made


TPESampler = _named("TPESampler", "tpe")
GPSampler = _named("GPSampler", "gp")
CmaEsSampler = _named("CmaEsSampler", "cma_es")
RandomSampler = _named("RandomSampler", "random")
NSGAIISampler = _named("NSGAIISampler", "nsga2")


def QMCSampler(*, qmc_type: str = "sobol", seed: Optional[int] = None, **options: Any) -> Sampler:
    """The searcher `sobol` or `halton`.

    Raises:
        ValueError: another type.
    """
    if qmc_type not in ("sobol", "halton"):
        raise ValueError(f"qmc_type is {qmc_type!r}, expected 'sobol' or 'halton'")
    without_effect("QMCSampler", options)
    return Sampler(qmc_type, seed)


_INSTEAD = {
    "GridSampler": "a job with `searcher: grid` (trainyard.submit), or study.enqueue_trial for each point",
    "BruteForceSampler": "any: a study ends where a finite space is used up",
    "NSGAIIISampler": "NSGAIISampler",
    "PartialFixedSampler": "constants in the objective",
}


def __getattr__(name: str) -> Any:
    raise lacking(__name__, name, _INSTEAD)
