"""Studies in Optuna's shape, with Trainyard's searcher and scheduler underneath.

    study = ty.create_study(direction="minimize")
    study.optimize(objective, n_trials=50)

An objective defines its space by running, a searcher needs it beforehand: so the first trial runs at the
middle of every range that it asks for, and shows the space. Where a later trial asks for what is not known
yet, that is drawn at random, and the search begins anew with the wider space and all results so far.
"""

from __future__ import annotations

import math
import random
import time
from dataclasses import dataclass
from typing import (
    Any,
    Callable,
    Dict,
    FrozenSet,
    List,
    Mapping,
    Optional,
    Sequence,
    Tuple,
    Type,
    Union,
)

from . import _values
from ._ask_tell import Search
from ._log import logger
from ._run import Infeasible
from ._space import Space
from .trial import FrozenTrial, Trial, TrialPruned, TrialState

# The spec's own bound (docs/reference.md, `prior_results`): the newest count.
MAX_PRIORS = 10_000
DIRECTIONS = ("minimize", "maximize")
# Schedulers whose trials run on or stop, as an objective can: it cannot wait and go on later.
PRUNERS = ("asha", "async_hyperband", "early_stopping", "median_stopping")


Objective = Callable[[Trial], float]
Callback = Callable[["Study", FrozenTrial], None]


def create_study(
    *,
    direction: str = "minimize",
    study_name: Optional[str] = None,
    sampler: str = "auto",
    pruner: Union[None, str, Mapping[str, Any]] = None,
    seed: int = 0,
) -> "Study":
    """A search of this process; nothing is stored.

    Args:
        direction: "minimize" or "maximize".
        study_name: a name of yours.
        sampler: a searcher of docs/reference.md: "auto", "gp", "tpe", "cma_es", "random", "sobol", "halton".
        pruner: a scheduler of docs/reference.md whose trials run on or stop: the mapping of its fields, such as
            `{"name": "asha", "max_resource": 27}` (with `variant: stopping`), or its name where it needs
            none: "median_stopping". Resources are steps.
        seed: the same objective and seed give the same trials.

    Raises:
        TypeError, ValueError: an argument is none of these.
    """
    return Study(direction, study_name, sampler, pruner, seed)


@dataclass
class _Running:
    """A trial under way: since when, and what the search calls it and asked of it (`None` of one it has not
    asked for)."""

    trial: Trial
    begun: float
    its_id: Optional[int]
    until: Optional[int]


class Study:
    """See `create_study`."""

    def __init__(
        self,
        direction: str,
        study_name: Optional[str],
        sampler: str,
        pruner: Union[None, str, Mapping[str, Any]],
        seed: int,
    ) -> None:
        if direction not in DIRECTIONS:
            raise ValueError(f"direction is {direction!r}, expected one of {DIRECTIONS}")
        self.direction = direction
        self.study_name = study_name
        self.user_attrs: Dict[str, Any] = {}
        self.trials: List[FrozenTrial] = []
        self._sampler = _values.text("sampler", sampler)
        self._scheduler = _scheduler(pruner)
        self._seed = _values.count("seed", seed)
        self._random = random.Random(self._seed)
        self._space = Space()
        self._search: Optional[Search] = None
        self._tried: Dict[FrozenSet[Tuple[str, Any]], FrozenTrial] = {}
        self._running: Dict[int, _Running] = {}
        self._queue: List[Dict[str, Any]] = []
        self._first_step: Optional[int] = None
        self._stopped = False

    # What a study has found.

    @property
    def best_trial(self) -> FrozenTrial:
        """The completed trial with the best value; of equal ones the first.

        Raises:
            ValueError: none has completed.
        """
        complete = [t for t in self.trials if t.state is TrialState.COMPLETE]
        if not complete:
            raise ValueError("no trial has completed yet")
        sign = 1 if self.direction == "minimize" else -1
        return min(complete, key=lambda trial: sign * (trial.value or 0.0))

    @property
    def best_value(self) -> float:
        value = self.best_trial.value
        assert value is not None
        return value

    @property
    def best_params(self) -> Dict[str, Any]:
        return dict(self.best_trial.params)

    def get_trials(self, states: Optional[Sequence[TrialState]] = None) -> List[FrozenTrial]:
        """Trials that have ended, those in one of `states`."""
        return [trial for trial in self.trials if states is None or trial.state in states]

    def set_user_attr(self, key: str, value: Any) -> None:
        """Keeps something with the study."""
        self.user_attrs[_values.text("key", key)] = value

    # Searching.

    def optimize(
        self,
        func: Objective,
        n_trials: Optional[int] = None,
        timeout: Optional[float] = None,
        *,
        n_jobs: int = 1,
        catch: Union[Type[Exception], Sequence[Type[Exception]]] = (),
        callbacks: Optional[Sequence[Callback]] = None,
    ) -> None:
        """Runs trials one after the other.

        Args:
            func: gets a `Trial`, returns its value; or raises `TrialPruned`.
            n_trials: how many; by default until `timeout`, `stop`, or the end of a finite space.
            timeout: seconds after which no trial begins.
            n_jobs: 1; a job on a cluster (`submit`) runs trials at once.
            catch: exceptions that fail a trial and not the study.
            callbacks: called with the study and each trial that has ended.

        Raises:
            TypeError, ValueError: an argument is none of these.
            ControlError: the search has refused something; FileNotFoundError: `coordinatorctl` is not found.
        """
        if n_jobs != 1:
            raise ValueError(
                f"n_jobs is {n_jobs!r}, expected 1: submit a job to run trials at once"
            )
        left = _values.count("n_trials", n_trials)
        caught = tuple(catch) if isinstance(catch, (list, tuple, set)) else (catch,)
        begun = time.monotonic()
        self._stopped = False
        try:
            while left is None or left > 0:
                if timeout is not None and time.monotonic() - begun >= timeout:
                    break
                trial = self._begin()
                if trial is None:
                    break
                ended = self._run(func, trial, caught)
                for callback in callbacks or ():
                    callback(self, ended)
                left = None if left is None else left - 1
                if self._stopped:
                    break
        finally:
            self._close()

    def stop(self) -> None:
        """No other trial begins after the one that runs; for objectives and callbacks."""
        self._stopped = True

    def enqueue_trial(self, params: Mapping[str, Any]) -> None:
        """The next trial has these values; the rest of what it asks for is chosen as ever."""
        self._queue.append(dict(params))

    def ask(self) -> Trial:
        """A trial to be run by the caller, and told.

        Raises:
            RuntimeError: the space is finite and all of it was tried.
        """
        trial = self._begin()
        if trial is None:
            raise RuntimeError("the search is over: its space is finite, and all of it was tried")
        return trial

    def tell(
        self,
        trial: Trial,
        value: Optional[float] = None,
        state: TrialState = TrialState.COMPLETE,
    ) -> FrozenTrial:
        """The end of a trial that was asked for.

        Raises:
            TypeError: a completed one without a number.
            ValueError: it was not asked for, or was told before.
        """
        if trial.number not in self._running:
            raise ValueError(f"trial {trial.number} is not running in this study")
        number = None
        if state is TrialState.COMPLETE:
            number = float(_values.number("value", value))
        return self._end(trial, number, state)

    def _begin(self) -> Optional[Trial]:
        fixed = self._queue.pop(0) if self._queue else {}
        number = len(self.trials) + len(self._running)
        asked: Optional[Dict[str, Any]] = None
        answer: Dict[str, Any] = {}
        if len(self._space):
            answer = self._asked()
            if "params" not in answer:
                return None
            asked = answer["params"]
        trial = Trial(number, asked, fixed, self._space, self._random, self._decide)
        self._running[number] = _Running(
            trial, time.monotonic(), answer.get("trial"), answer.get("until")
        )
        return trial

    def _asked(self) -> Dict[str, Any]:
        """The search's next question. What was tried before it began anew is answered without the objective."""
        if self._search is None:
            self._search = Search(self._spec())
            self._tried = {self._asked_for(trial): trial for trial in self.trials}
        while True:
            answer = self._search.ask()
            known = self._tried.pop(frozenset(answer.get("params", {}).items()), None)
            if known is None or "params" not in answer:
                return answer
            if known.value is None:
                self._search.tell_state(answer["trial"], "failed")
            else:
                self._search.tell(answer["trial"], _number_or_null(known.value))

    def _asked_for(self, trial: FrozenTrial) -> "FrozenSet[Tuple[str, Any]]":
        return frozenset(
            (self._space.key(name), value)
            for name, value in trial.internal.items()
            if not self._space.is_single(name)
        )

    def _spec(self) -> Dict[str, Any]:
        seen = [trial.internal for trial in self.trials]
        return {
            "hyperparameters": self._space.spec(seen),
            "objectives": [{"metric": "value", "mode": self.direction}],
            "searcher": {"name": self._sampler, "prior_results": self._priors(seen)},
            "seed": self._seed,
            **({} if self._scheduler is None else {"scheduler": self._scheduler}),
        }

    def _priors(self, seen: Sequence[Mapping[str, Any]]) -> List[Dict[str, Any]]:
        known = [t.value for t in self.trials if t.state is TrialState.COMPLETE]
        values = [value for value in known if value is not None and math.isfinite(value)]
        found = []
        for trial in self.trials[-MAX_PRIORS:]:
            value = trial.value if trial.state is TrialState.COMPLETE else None
            if trial.state is TrialState.FAIL and values:
                # As the search itself counts a failure: as bad as the worst.
                value = max(values) if self.direction == "minimize" else min(values)
            if value is not None and math.isfinite(value):
                found.append(self._space.prior(trial.internal, value, seen, self._random))
        return found

    def _decide(self, trial: Trial, step: int, value: float) -> str:
        running = self._running[trial.number]
        its_id = running.its_id
        if self._first_step is None:
            self._first_step = step
        if self._search is None or self._scheduler is None or its_id is None or trial._stop:
            return "continue"
        # Counted from 0 the first step has used one unit of the resource.
        resource = step + 1 if self._first_step == 0 else step
        decision = self._search.report(its_id, resource, _number_or_null(value))
        # At the last rung it is stopped because it is complete, which is no pruning.
        return "continue" if running.until is not None and resource >= running.until else decision

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
            number = float(_values.number("the objective's value", value))
        except BaseException:
            self._end(trial, None, TrialState.FAIL)
            raise
        if math.isnan(number):
            logger.warning("trainyard: trial %d came to NaN and counts as failed", trial.number)
            return self._end(trial, None, TrialState.FAIL, "nan")
        return self._end(trial, number, TrialState.COMPLETE)

    def _end(
        self, trial: Trial, value: Optional[float], state: TrialState, why: str = "failed"
    ) -> FrozenTrial:
        running = self._running.pop(trial.number)
        its_id = running.its_id
        last = list(trial._reports.values())[-1] if trial._reports else None
        ended = FrozenTrial(
            number=trial.number,
            state=state,
            value=last if state is TrialState.PRUNED else value,
            params=dict(trial.params),
            intermediate_values=dict(trial._reports),
            user_attrs=dict(trial.user_attrs),
            duration_s=time.monotonic() - running.begun,
            internal=dict(trial._internal),
        )
        self.trials.append(ended)
        if trial.deviates:
            # What the search would be told is of another configuration: it begins anew, with all that is known.
            self._close()
        elif self._search is not None and its_id is not None and not trial._stop:
            if ended.value is None:
                self._search.tell_state(its_id, why)
            else:
                self._search.tell(its_id, _number_or_null(ended.value))
        return ended

    def _close(self) -> None:
        search, self._search = self._search, None
        if search is not None:
            search.close()


def _scheduler(pruner: Union[None, str, Mapping[str, Any]]) -> Optional[Dict[str, Any]]:
    if pruner is None:
        return None
    fields = {"name": pruner} if isinstance(pruner, str) else pruner
    if not isinstance(fields, Mapping):
        raise TypeError(
            f"pruner is of type {type(pruner).__name__}, expected a name or a mapping of a scheduler's fields"
        )
    name = fields.get("name")
    if name not in PRUNERS:
        raise ValueError(
            f"pruner is {name!r}, expected one of {PRUNERS}: other schedulers pause trials and go on "
            "later, which an objective cannot"
        )
    paused = fields.get("variant", "stopping") != "stopping"
    if name in ("asha", "async_hyperband"):
        if paused:
            raise ValueError(f"variant of the pruner is {fields['variant']!r}, expected 'stopping'")
        return {**fields, "variant": "stopping"}
    return dict(fields)


def _number_or_null(value: float) -> Optional[float]:
    return value if math.isfinite(value) else None
