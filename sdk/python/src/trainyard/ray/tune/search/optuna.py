"""`ray.tune.search.optuna`."""

from __future__ import annotations

from typing import Any

from . import SearchAlgorithm, named


def OptunaSearch(**options: Any) -> SearchAlgorithm:
    """The searcher `tpe`; the space is that of the Tuner."""
    return named("OptunaSearch", "tpe", options)


__all__ = ["OptunaSearch"]
