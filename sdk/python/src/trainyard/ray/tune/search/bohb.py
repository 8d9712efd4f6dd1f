"""`ray.tune.search.bohb`."""

from __future__ import annotations

from typing import Any

from . import SearchAlgorithm, named


def TuneBOHB(**options: Any) -> SearchAlgorithm:
    """The searcher `bohb`; the space is that of the Tuner."""
    return named("TuneBOHB", "bohb", options)


__all__ = ["TuneBOHB"]
