"""`ray.tune`: a function's search over a space. Ranges are what a spec has; the searcher is `auto` unless named."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Callable, Dict, List, Mapping, NoReturn, Optional, Sequence, Union

from ... import space as _ranges
from ..._settings import without_effect
from .._checkpoint import Checkpoint
from .._configs import CheckpointConfig, FailureConfig, RunConfig
from .._configs import mode as spec_mode
from ..._instead import lacking
from .._launch import launch
from .._reporting import get_checkpoint, get_context, report
from .._results import Result, ResultGrid
from . import schedulers, search
from .schedulers import (
    ASHAScheduler,
    AsyncHyperBandScheduler,
    FIFOScheduler,
    HyperBandScheduler,
    MedianStoppingRule,
    PopulationBasedTraining,
)
from .search import SearchAlgorithm

Function = Callable[..., Any]
GRID = "grid"


# Ranges. As in Ray, whole numbers end below `upper`.


def uniform(lower: float, upper: float) -> Dict[str, Any]:
    """A number from `lower` to `upper`."""
    return _ranges.uniform(lower, upper)


def quniform(lower: float, upper: float, q: float) -> Dict[str, Any]:
    """Only `lower`, `lower + q`, ..."""
    return _ranges.uniform(lower, upper, step=q)


def loguniform(lower: float, upper: float, base: float = 10) -> Dict[str, Any]:
    """The base makes no difference."""
    return _ranges.loguniform(lower, upper)


def randint(lower: int, upper: int) -> Dict[str, Any]:
    """Below `upper`."""
    return _ranges.integer(lower, upper - 1)


def qrandint(lower: int, upper: int, q: int = 1) -> Dict[str, Any]:
    """To `upper` included."""
    return _ranges.integer(lower, upper, step=q)


def lograndint(lower: int, upper: int, base: float = 10) -> Dict[str, Any]:
    """Below `upper`."""
    return _ranges.integer(lower, upper - 1, log=True)


def choice(categories: Sequence[Any]) -> Dict[str, Any]:
    """One of them: numbers, texts, booleans."""
    return _ranges.choice(list(categories))


def grid_search(values: Sequence[Any]) -> Dict[str, Any]:
    """All of them; a space with it has no other ranges."""
    return {**_ranges.choice(list(values)), GRID: True}


def sample_from(*_: Any) -> NoReturn:
    """Not there.

    Raises:
        NotImplementedError: always.
    """
    raise NotImplementedError(
        "a searcher knows ranges: compute what follows from others in the function"
    )


randn = qrandn = qloguniform = qlograndint = sample_from


@dataclass
class TuneConfig:
    """How to search: by what, how many configurations, with which searcher (by its name) and scheduler."""

    metric: Optional[str] = None
    mode: Optional[str] = None
    num_samples: int = 1
    search_alg: Union[None, str, SearchAlgorithm] = None
    scheduler: Union[None, str, Mapping[str, Any]] = None
    max_concurrent_trials: Optional[int] = None
    time_budget_s: Union[None, float, timedelta] = None
    reuse_actors: bool = False


def with_resources(trainable: Function, resources: Mapping[str, float]) -> Function:
    """The function with its resources: `{"gpu": 1}`. A trial is one process, whatever `cpu` says."""
    without_effect(
        "with_resources", {k: v for k, v in resources.items() if k not in ("cpu", "gpu")}
    )
    gpus = resources.get("gpu", 0)
    if gpus not in (0, 1):
        raise ValueError(f"gpu is {gpus}, expected 0 or 1: a job has `resources` for more")
    _RESOURCES[trainable] = {"device": "cuda"} if gpus else {}
    return trainable


_RESOURCES: Dict[Function, Dict[str, Any]] = {}


def with_parameters(trainable: Function, **_: Any) -> NoReturn:
    """Not there.

    Raises:
        NotImplementedError: always.
    """
    raise NotImplementedError("objects cannot be shipped: load them in the function")


class Tuner:
    """A search: each trial calls `trainable` with its configuration.

    Raises:
        ValueError: no metric, no mode; or ranges beside `grid_search`.
    """

    def __init__(
        self,
        trainable: Function,
        *,
        param_space: Optional[Mapping[str, Any]] = None,
        tune_config: Optional[TuneConfig] = None,
        run_config: Optional[RunConfig] = None,
    ) -> None:
        self._trainable = trainable
        self._space = dict(param_space or {})
        self._config = tune_config or TuneConfig()
        self._run = run_config or RunConfig()

    def fit(self) -> ResultGrid:
        """Searches to the end. Trials that fail do not raise: see `errors`.

        Raises:
            TypeError, ValueError, ControlError, FileNotFoundError: as `trainyard.RemoteFunction.search`.
        """
        config = self._config
        algorithm = config.search_alg
        if not isinstance(algorithm, SearchAlgorithm):
            algorithm = SearchAlgorithm(algorithm or "auto")
        scheduler = _scheduler(config.scheduler, self._run.iterations())
        space = self._space
        if scheduler is not None and schedulers.MUTATIONS in scheduler:
            space = _mutated(space, scheduler.pop(schedulers.MUTATIONS))
        judged = {} if scheduler is None else scheduler
        of_scheduler = judged.pop("metric", None), judged.pop("mode", None)
        metric = config.metric or of_scheduler[0] or algorithm.metric
        given_mode = config.mode or of_scheduler[1] or algorithm.mode
        if metric is None:
            raise ValueError("metric of the TuneConfig is None, expected a metric's name")
        options: Dict[str, Any] = {"resources": _RESOURCES.get(self._trainable, {})}
        if scheduler is not None:
            options["scheduler"] = scheduler
        grid = _grid(space)
        if grid and config.num_samples != 1:
            raise ValueError(
                f"num_samples is {config.num_samples} with grid_search, expected 1: a point is tried once"
            )
        # Ray runs on whatever fails.
        failing = {} if grid else {"max_failed_trials": config.num_samples}
        return launch(
            self._trainable,
            _without_grid(space),
            objectives={metric: spec_mode(given_mode)},
            run=self._run,
            flags=[],
            check=False,
            n_trials=None if grid else config.num_samples,
            searcher=_searcher(config, GRID if grid else algorithm.name, algorithm.max_concurrent),
            **failing,
            **options,
        )


def _searcher(config: TuneConfig, name: str, concurrent: Optional[int]) -> Dict[str, Any]:
    found: Dict[str, Any] = {"name": name}
    limits = [limit for limit in (config.max_concurrent_trials, concurrent) if limit is not None]
    if limits:
        found["max_concurrent_trials"] = min(limits)
    budget = config.time_budget_s
    if budget is not None:
        found["max_time"] = budget.total_seconds() if isinstance(budget, timedelta) else budget
    return found


def _mutated(space: Mapping[str, Any], mutations: Mapping[str, Any]) -> Dict[str, Any]:
    """The space of a population, in which every range is one that is perturbed.

    Raises:
        ValueError: it has others; or a mutation is no range and no list.
    """
    others = [
        name
        for name, value in space.items()
        if name not in mutations and isinstance(value, (Mapping, list, tuple))
    ]
    if others:
        raise ValueError(
            f"param_space has ranges for {others}, which are not in hyperparam_mutations: expected constants"
        )
    for name, value in mutations.items():
        if not isinstance(value, (Mapping, list, tuple)):
            raise ValueError(
                f"hyperparam_mutations[{name!r}] is {value!r:.80}, expected a range or a list"
            )
    return {
        **space,
        **{n: v if isinstance(v, Mapping) else choice(v) for n, v in mutations.items()},
    }


def _scheduler(given: Any, iterations: Optional[int]) -> Optional[Dict[str, Any]]:
    if given is None:
        # One rung, at which every trial ends.
        rung = {"min_resource": iterations, "max_resource": iterations}
        return None if iterations is None else {"name": "asha", **rung}
    fields = {"name": given} if isinstance(given, str) else dict(given)
    if fields.get("name") == "pbt" and "max_resource" not in fields:
        if iterations is None:
            raise ValueError(
                "stop of the RunConfig is None, expected {'training_iteration': n} with PopulationBasedTraining"
            )
        return {**fields, "max_resource": iterations}
    if iterations is not None:
        raise ValueError("stop is given with a scheduler, expected its max_t alone")
    return fields


def _grid(space: Mapping[str, Any]) -> bool:
    ranges: List[Mapping[str, Any]] = []
    for value in space.values():
        if isinstance(value, Mapping):
            ranges += [value] if "type" in value else []
            if "type" not in value and _grid(value):
                ranges.append({GRID: True})
    grids = [GRID in found for found in ranges]
    if any(grids) and not all(grids):
        raise ValueError("grid_search stands beside other ranges, expected one kind of them")
    return any(grids)


def _without_grid(space: Mapping[str, Any]) -> Dict[str, Any]:
    found: Dict[str, Any] = {}
    for name, value in space.items():
        if not isinstance(value, Mapping):
            found[name] = value
        elif "type" in value:
            found[name] = {key: held for key, held in value.items() if key != GRID}
        else:
            found[name] = _without_grid(value)
    return found


def run(*_: Any, **__: Any) -> NoReturn:
    """Not there.

    Raises:
        NotImplementedError: always.
    """
    raise NotImplementedError("instead: Tuner(...).fit()")


_INSTEAD = {
    "Trainable": "a function that calls report",
    "Callback": "`coordinatorctl watch JOB`",
    "Stopper": "should_stop of trainyard, or RunConfig(stop={'training_iteration': n})",
}


def __getattr__(name: str) -> Any:
    raise lacking(__name__, name, _INSTEAD)


__all__ = [
    "ASHAScheduler",
    "AsyncHyperBandScheduler",
    "Checkpoint",
    "CheckpointConfig",
    "FIFOScheduler",
    "FailureConfig",
    "HyperBandScheduler",
    "MedianStoppingRule",
    "PopulationBasedTraining",
    "Result",
    "ResultGrid",
    "RunConfig",
    "TuneConfig",
    "Tuner",
    "choice",
    "get_checkpoint",
    "get_context",
    "grid_search",
    "lograndint",
    "loguniform",
    "qrandint",
    "quniform",
    "randint",
    "report",
    "schedulers",
    "search",
    "uniform",
    "with_parameters",
    "with_resources",
]
