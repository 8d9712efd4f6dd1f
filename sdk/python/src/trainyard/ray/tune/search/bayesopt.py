"""`ray.tune.search.bayesopt`."""

from __future__ import annotations

from typing import Any

from . import SearchAlgorithm, named


def BayesOptSearch(**options: Any) -> SearchAlgorithm:
    """The searcher `gp`; the space is that of the Tuner."""
    return named("BayesOptSearch", "gp", options)


__all__ = ["BayesOptSearch"]
