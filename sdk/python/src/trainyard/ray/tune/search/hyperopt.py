"""`ray.tune.search.hyperopt`."""

from __future__ import annotations

from typing import Any

from . import SearchAlgorithm, named


def HyperOptSearch(**options: Any) -> SearchAlgorithm:
    """The searcher `tpe`; the space is that of the Tuner."""
    return named("HyperOptSearch", "tpe", options)


__all__ = ["HyperOptSearch"]
