"""`ray.tune.search.ax`."""

from __future__ import annotations

from typing import Any

from . import SearchAlgorithm, named


def AxSearch(**options: Any) -> SearchAlgorithm:
    """The searcher `gp`; the space is that of the Tuner."""
    return named("AxSearch", "gp", options)


__all__ = ["AxSearch"]
