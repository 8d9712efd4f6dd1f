"""`ray.tune.search`: the searchers of a spec, by the names that Ray gives its algorithms. Of their options the metric counts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Optional, Union

from ...._settings import without_effect


@dataclass(frozen=True)
class SearchAlgorithm:
    """A searcher, by its name in a spec; what it is judged by, and how many trials it has under way at most."""

    name: str
    metric: Optional[str] = None
    mode: Optional[str] = None
    max_concurrent: Optional[int] = None


def named(ray: str, searcher: str, options: Any) -> SearchAlgorithm:
    """The searcher in place of one of Ray's; options without a counterpart are told once."""
    metric, mode = options.pop("metric", None), options.pop("mode", None)
    concurrent = options.pop("max_concurrent", None)
    without_effect(ray, options)
    return SearchAlgorithm(searcher, metric, mode, concurrent)


def BasicVariantGenerator(**options: Any) -> SearchAlgorithm:
    """`random`."""
    return named("BasicVariantGenerator", "random", options)


def ConcurrencyLimiter(
    searcher: Union[str, SearchAlgorithm], max_concurrent: int, batch: bool = False
) -> SearchAlgorithm:
    """A searcher of which so many trials are under way at most.

    Raises:
        ValueError: `batch`.
    """
    if batch:
        raise ValueError("batch is True, expected False: a trial begins where another has ended")
    of = SearchAlgorithm(searcher) if isinstance(searcher, str) else searcher
    return replace(of, max_concurrent=max_concurrent)


__all__ = ["BasicVariantGenerator", "ConcurrencyLimiter", "SearchAlgorithm"]
