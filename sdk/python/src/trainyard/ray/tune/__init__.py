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
from .._launch import launch
from .._reporting import get_checkpoint, get_context, report
from .._results import Result, ResultGrid
from . import schedulers
from .schedulers import (
    ASHAScheduler,
    AsyncHyperBandScheduler,
    FIFOScheduler,
    HyperBandScheduler,
    MedianStoppingRule,
)

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
    search_alg: Optional[str] = None
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
        scheduler = _scheduler(config.scheduler, self._run.iterations())
        judged = {} if scheduler is None else scheduler
        of_scheduler = judged.pop("metric", None), judged.pop("mode", None)
        metric, given_mode = config.metric or of_scheduler[0], config.mode or of_scheduler[1]
        if metric is None:
            raise ValueError("metric of the TuneConfig is None, expected a metric's name")
        options: Dict[str, Any] = {"resources": _RESOURCES.get(self._trainable, {})}
        if scheduler is not None:
            options["scheduler"] = scheduler
        grid = _grid(self._space)
        searcher: Dict[str, Any] = {"name": GRID if grid else config.search_alg or "auto"}
        if config.max_concurrent_trials is not None:
            searcher["max_concurrent_trials"] = config.max_concurrent_trials
        if config.time_budget_s is not None:
            budget = config.time_budget_s
            searcher["max_time"] = (
                budget.total_seconds() if isinstance(budget, timedelta) else budget
            )
        if grid and config.num_samples != 1:
            raise ValueError(
                f"num_samples is {config.num_samples} with grid_search, expected 1: a point is tried once"
            )
        # Ray runs on whatever fails.
        failing = {} if grid else {"max_failed_trials": config.num_samples}
        return launch(
            self._trainable,
            _without_grid(self._space),
            objectives={metric: spec_mode(given_mode)},
            run=self._run,
            flags=[],
            check=False,
            n_trials=None if grid else config.num_samples,
            searcher=searcher,
            **failing,
            **options,
        )


def _scheduler(given: Any, iterations: Optional[int]) -> Optional[Dict[str, Any]]:
    if given is None:
        # One rung, at which every trial ends.
        rung = {"min_resource": iterations, "max_resource": iterations}
        return None if iterations is None else {"name": "asha", **rung}
    if iterations is not None:
        raise ValueError("stop is given with a scheduler, expected its max_t alone")
    return {"name": given} if isinstance(given, str) else dict(given)


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
    "search": "search_alg='tpe', or another searcher's name",
    "Callback": "`coordinatorctl watch JOB`",
    "Stopper": "should_stop of trainyard, or RunConfig(stop={'training_iteration': n})",
}


def __getattr__(name: str) -> Any:
    if name in _INSTEAD:
        raise AttributeError(f"trainyard.ray.tune has no {name}; instead: {_INSTEAD[name]}")
    raise AttributeError(f"module 'trainyard.ray.tune' has no attribute {name!r}")


__all__ = [
    "ASHAScheduler",
    "AsyncHyperBandScheduler",
    "Checkpoint",
    "CheckpointConfig",
    "FIFOScheduler",
    "FailureConfig",
    "HyperBandScheduler",
    "MedianStoppingRule",
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
    "uniform",
    "with_parameters",
    "with_resources",
]
