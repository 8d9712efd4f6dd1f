"""Studies in Optuna's shape, with Trainyard's searcher and scheduler underneath.

    study = ty.create_study(direction="minimize")
    study.optimize(objective, n_trials=50)

An objective defines its space by running, a searcher needs it beforehand: so the first trial runs at the
middle of every range that it asks for, and shows the space. Where a later trial asks for what is not known
yet, that is drawn at random, and the search begins anew with the wider space and all results so far.
"""

from __future__ import annotations

import gc
import math
import os
import random
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import (
    Any,
    Callable,
    Dict,
    Iterable,
    List,
    Mapping,
    NoReturn,
    Optional,
    Sequence,
    Tuple,
    Type,
    Union,
)

from . import _settings, _values
from ._driver import Asked, Driver, Wait
from ._log import logger
from ._results import Results, StudyDirection
from ._run import Infeasible
from ._space import Distribution, Space
from .trial import FrozenTrial, Trial, TrialPruned, TrialState

# What a study accepts of `n_jobs`: more threads than this only stand in each other's way.
MAX_JOBS = 256


Objective = Callable[[Trial], Union[float, Sequence[float]]]
Callback = Callable[["Study", FrozenTrial], Any]
Directions = Sequence[Union[str, StudyDirection]]


def create_study(
    *,
    direction: Union[None, str, StudyDirection] = None,
    directions: Optional[Directions] = None,
    study_name: Optional[str] = None,
    sampler: Union[None, str, "_settings.Sampler"] = None,
    pruner: Union[None, str, Mapping[str, Any], "_settings.Pruner"] = None,
    seed: Optional[int] = None,
    storage: None = None,
    load_if_exists: bool = False,
) -> "Study":
    """A search of this process; nothing is stored.

    Args:
        direction: "minimize" (unless given) or "maximize".
        directions: of each of several objectives, in place of `direction`.
        study_name: a name of yours.
        sampler: a searcher of docs/reference.md: "auto" (unless given), "gp", "tpe", "cma_es", "random", "sobol",
            "halton", "nsga2"; or one of `trainyard.optuna.samplers`.
        pruner: a scheduler of docs/reference.md whose trials run on or stop: the mapping of its fields, such as
            `{"name": "asha", "max_resource": 27}` (with `variant: stopping`), or its name where it needs
            none: "median_stopping"; or one of `trainyard.optuna.pruners`. Resources are steps.
        seed: the same objective and seed give the same trials (with `n_jobs=1`); by default the sampler's, else 0.
        storage, load_if_exists: not there.

    Raises:
        TypeError, ValueError: an argument is none of these.
    """
    if storage is not None or load_if_exists:
        raise ValueError(
            f"storage is {storage!r}, load_if_exists {load_if_exists!r}, expected neither: a study is not stored; "
            "submit a job, whose state is the coordinator's"
        )
    if direction is not None and directions is not None:
        raise ValueError("both direction and directions are given, expected one of them")
    given = list(directions) if directions is not None else [direction or "minimize"]
    if not given:
        raise ValueError("directions is empty, expected at least one")
    return Study(given, study_name, sampler, pruner, seed)


@dataclass
class _Running:
    """A trial under way, and what the search asked of it (`None` of one that it has not asked for)."""

    trial: Trial
    asked: Optional[Asked]


class _Quota:
    """How many trials may still begin, and until when."""

    def __init__(self, trials: Optional[int], timeout: Optional[float]) -> None:
        self._left = trials
        self._until = None if timeout is None else time.monotonic() + timeout

    def take(self) -> bool:
        """Whether another may begin; it counts as begun."""
        if self._left == 0 or (self._until is not None and time.monotonic() >= self._until):
            return False
        self._left = None if self._left is None else self._left - 1
        return True


class Study(Results):
    """See `create_study`."""

    def __init__(
        self,
        directions: Directions,
        study_name: Optional[str],
        sampler: Union[None, str, "_settings.Sampler"],
        pruner: Union[None, str, Mapping[str, Any], "_settings.Pruner"],
        seed: Optional[int],
    ) -> None:
        super().__init__(directions, study_name)
        name, own_seed = _settings.sampler(sampler)
        modes = [direction.value for direction in self._directions]
        scheduler = _settings.scheduler(pruner, modes)
        number = _values.count("seed", seed if seed is not None else own_seed)
        self._random = random.Random(number)
        self._space = Space()
        self._driver = Driver(self._space, name, scheduler, number or 0, modes, self._random)
        self._running: Dict[int, _Running] = {}
        self._begun = 0
        self._queue: List[Tuple[Dict[str, Any], Dict[str, Any]]] = []
        self._first_step: Optional[int] = None
        self._stopped = False
        # The lock is held over everything but the objective itself; this is told when a trial has ended.
        self._change = threading.Condition(self._lock)

    # Searching.

    def optimize(
        self,
        func: Objective,
        n_trials: Optional[int] = None,
        timeout: Optional[float] = None,
        n_jobs: int = 1,
        catch: Union[Type[Exception], Iterable[Type[Exception]]] = (),
        callbacks: Optional[Iterable[Callback]] = None,
        gc_after_trial: bool = False,
        show_progress_bar: bool = False,
    ) -> None:
        """Runs trials.

        Args:
            func: gets a `Trial`, returns its value (with several objectives one each); or raises `TrialPruned`.
            n_trials: how many; by default until `timeout`, `stop`, or the end of a finite space.
            timeout: seconds after which no trial begins.
            n_jobs: threads that run trials at once; -1: as many as there are CPU threads. The first trial runs alone.
            catch: exceptions that fail a trial and not the study.
            callbacks: called with the study and each trial that has ended.
            gc_after_trial: collects garbage after each trial.
            show_progress_bar: tells each trial's end on standard error.

        Raises:
            TypeError, ValueError: an argument is none of these.
            ControlError: the search has refused something; FileNotFoundError: `coordinatorctl` is not found.
        """
        caught = tuple(catch) if isinstance(catch, Iterable) else (catch,)
        called = list(callbacks or ())
        if show_progress_bar:
            called.insert(0, _tell_progress)
        if gc_after_trial:
            called.append(lambda study, trial: gc.collect())
        threads = _threads(n_jobs)
        quota = _Quota(_values.count("n_trials", n_trials), timeout)
        self._stopped = False
        try:
            if threads == 1:
                self._loop(func, quota, caught, called)
            else:
                self._at_once(threads, func, quota, caught, called)
        finally:
            self._driver.close()

    def _at_once(self, threads: int, *arguments: Any) -> None:
        with ThreadPoolExecutor(threads, thread_name_prefix="trainyard-study") as pool:
            loops = [pool.submit(self._loop, *arguments) for _ in range(threads)]
            try:
                for loop in loops:
                    loop.result()
            finally:
                self.stop()

    def _loop(
        self, func: Objective, quota: _Quota, caught: Tuple[Any, ...], callbacks: List[Callback]
    ) -> None:
        try:
            while True:
                trial = self._next(quota)
                if trial is None:
                    return
                ended = self._run(func, trial, caught)
                with self._lock:
                    for callback in callbacks:
                        callback(self, ended)
        except BaseException:
            self.stop()
            raise

    def _next(self, quota: _Quota) -> Optional[Trial]:
        """A trial for `optimize`, once there can be one."""
        with self._change:
            while True:
                # Beside the first trial, which shows the space, nothing could be chosen.
                if len(self._space) or not self._running:
                    if self._stopped or not quota.take():
                        return None
                    try:
                        return self._begin()
                    except Wait:
                        if not self._running:
                            return None
                self._change.wait()

    def stop(self) -> None:
        """No other trial begins; for objectives and callbacks."""
        with self._change:
            self._stopped = True
            self._change.notify_all()

    def enqueue_trial(
        self,
        params: Mapping[str, Any],
        user_attrs: Optional[Mapping[str, Any]] = None,
        skip_if_exists: bool = False,
    ) -> None:
        """The next trial has these values; the rest of what it asks for is chosen as ever.

        Args:
            user_attrs: the trial's, from its beginning.
            skip_if_exists: whether to do nothing if a trial had or will have these values.
        """
        given = dict(params)
        with self._lock:
            if skip_if_exists and (
                any(given == trial.params for trial in self._ended)
                or any(given == queued for queued, _ in self._queue)
            ):
                return
            self._queue.append((given, dict(user_attrs or {})))

    def add_trial(self, trial: FrozenTrial) -> None:
        """Takes a trial that has ended elsewhere (`create_trial`) for known.

        Raises:
            ValueError: its parameters are of another kind than the study's, or it has another number of values.
        """
        if trial.values is not None and len(trial.values) != len(self._directions):
            raise ValueError(
                f"the trial has {len(trial.values)} values, expected {len(self._directions)}"
            )
        with self._lock:
            for name, distribution in trial.distributions.items():
                self._space.widen(name, distribution)
            trial.number = self._begun
            self._begun += 1
            self._keep(trial)
            self._driver.close()

    def add_trials(self, trials: Iterable[FrozenTrial]) -> None:
        """`add_trial` for each."""
        for trial in trials:
            self.add_trial(trial)

    def ask(self, fixed_distributions: Optional[Mapping[str, Distribution]] = None) -> Trial:
        """A trial to be run by the caller, and told.

        Args:
            fixed_distributions: what it is to have in its `params` already.

        Raises:
            RuntimeError: the space is finite and all of it was tried.
        """
        for name, distribution in (fixed_distributions or {}).items():
            self._space.widen(name, distribution)
        with self._lock:
            try:
                trial = self._begin()
            except Wait:
                raise RuntimeError("the search needs results of trials under way first") from None
        if trial is None:
            raise RuntimeError("the search is over: its space is finite, and all of it was tried")
        for name, distribution in (fixed_distributions or {}).items():
            trial._suggest(name, distribution)
        return trial

    def tell(
        self,
        trial: Union[Trial, int],
        values: Union[None, float, Sequence[float]] = None,
        state: Optional[TrialState] = None,
        skip_if_finished: bool = False,
    ) -> FrozenTrial:
        """The end of a trial that was asked for.

        Args:
            trial: it, or its number.
            values: what came out; one number, or one for each objective.
            state: by default `COMPLETE`, without values `FAIL`.
            skip_if_finished: whether one that was told before is given back, and no error.

        Raises:
            TypeError: a completed one without a number.
            ValueError: it was not asked for, or was told before.
        """
        number = trial if isinstance(trial, int) else trial.number
        with self._lock:
            running = self._running.get(number)
            if running is None:
                before = [ended for ended in self._ended if ended.number == number]
                if skip_if_finished and before:
                    return before[0]
                raise ValueError(f"trial {number} is not running in this study")
            if state is None:
                state = TrialState.FAIL if values is None else TrialState.COMPLETE
            numbers = self._numbers("values", values) if state is TrialState.COMPLETE else None
            return self._end(running.trial, numbers, state)

    def _numbers(self, what: str, given: Any) -> List[float]:
        """What an objective has returned, one number for each direction."""
        wanted = len(self._directions)
        listed = isinstance(given, (list, tuple))
        if listed and len(given) != wanted or wanted > 1 and not listed:
            raise ValueError(f"{what} is {given!r:.80}, expected {wanted} number(s)")
        return [float(_values.number(what, value)) for value in (given if listed else [given])]

    def _begin(self) -> Optional[Trial]:
        asked: Optional[Asked] = None
        if len(self._space):
            asked = self._driver.ask(self._ended)
            if asked is None:
                return None
        fixed, attributes = self._queue.pop(0) if self._queue else ({}, {})
        number, self._begun = self._begun, self._begun + 1
        params = None if asked is None else asked.params
        shared = self._space, self._random, self._decide, self._lock, self
        trial = Trial(number, params, fixed, *shared)
        trial.user_attrs.update(attributes)
        self._running[number] = _Running(trial, asked)
        return trial

    def _decide(self, trial: Trial, step: int, value: float) -> str:
        if len(self._directions) > 1:
            raise NotImplementedError("with several objectives there is no pruning, nor reports")
        with self._lock:
            asked = self._running[trial.number].asked
            if self._first_step is None:
                self._first_step = step
            if asked is None or trial._stop:
                return "continue"
            # Counted from 0 the first step has used one unit of the resource.
            resource = step + 1 if self._first_step == 0 else step
            return self._driver.report(asked, resource, value)

    def _run(self, func: Objective, trial: Trial, caught: Tuple[Any, ...]) -> FrozenTrial:
        try:
            value = func(trial)
        except TrialPruned:
            return self._end(trial, None, TrialState.PRUNED)
        except Infeasible as error:
            logger.warning("trainyard: trial %d is infeasible: %s", trial.number, error)
            return self._end(trial, None, TrialState.FAIL, "infeasible")
        except caught as error:
            logger.warning("trainyard: trial %d has failed: %r", trial.number, error)
            return self._end(trial, None, TrialState.FAIL)
        except BaseException:
            self._end(trial, None, TrialState.FAIL)
            raise
        try:
            numbers = self._numbers("the objective's value", value)
        except BaseException:
            self._end(trial, None, TrialState.FAIL)
            raise
        if any(map(math.isnan, numbers)):
            logger.warning("trainyard: trial %d came to NaN and counts as failed", trial.number)
            return self._end(trial, None, TrialState.FAIL, "nan")
        return self._end(trial, numbers, TrialState.COMPLETE)

    def _end(
        self, trial: Trial, values: Optional[List[float]], state: TrialState, why: str = "failed"
    ) -> FrozenTrial:
        with self._change:
            running = self._running.pop(trial.number)
            ended = trial._ended(values, state)
            self._keep(ended)
            if trial.deviates:
                # What the search would be told is of another configuration: it begins anew, with all that is known.
                self._driver.close()
            elif running.asked is not None and not trial._stop:
                self._driver.tell(running.asked, ended.values, why)
            self._change.notify_all()
        return ended

    def _keep(self, ended: FrozenTrial) -> None:
        self._ended.append(ended)
        self._ended.sort(key=lambda trial: trial.number)


def load_study(*_: Any, **__: Any) -> NoReturn:
    """Not there.

    Raises:
        NotImplementedError: always.
    """
    raise NotImplementedError(
        "studies are not stored: submit a job, and look at it as trainyard.Job"
    )


def _threads(n_jobs: Any) -> int:
    if n_jobs == -1:
        return os.cpu_count() or 1
    if isinstance(n_jobs, bool) or not isinstance(n_jobs, int) or not 1 <= n_jobs <= MAX_JOBS:
        raise ValueError(f"n_jobs is {n_jobs!r}, expected 1 to {MAX_JOBS}, or -1")
    return n_jobs


def _tell_progress(study: Study, trial: FrozenTrial) -> None:
    best = ""
    if len(study.directions) == 1 and study.get_trials(states=[TrialState.COMPLETE]):
        best = f", best {study.best_value:.6g} (trial {study.best_trial.number})"
    shown = ", ".join(f"{value:.6g}" for value in trial.values or [])
    print(
        f"trial {trial.number} {trial.state.name.lower()} {shown}{best}",
        file=sys.stderr,
        flush=True,
    )
