"""A trial of a study: what an objective is called with, and what is left of it.

Knows the space, and nothing of the search: what was asked for is handed in.
"""

from __future__ import annotations

import random
import threading
from datetime import datetime
from typing import Any, Callable, Dict, List, Mapping, NoReturn, Optional, Sequence

from . import _values
from ._frozen import FrozenTrial as FrozenTrial
from ._frozen import TrialState as TrialState
from ._frozen import create_trial as create_trial
from ._frozen import internal
from ._log import warn_once
from ._results import Results
from ._space import Choice, Distribution, Space, numeric


class TrialPruned(Exception):
    """An objective raises it where `should_prune` says so."""


class Suggesting:
    """The forms of `suggest`, over one that takes a distribution."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: Optional[float] = None, log: bool = False
    ) -> float:
        """A number from `low` to `high`, both ends included.

        Args:
            step: only `low`, `low + step`, ...
            log: spread evenly over the logarithm.

        Raises:
            TypeError, ValueError: no such range; or `name` was of another kind before.
        """
        asked = numeric(name, low, high, whole=False, log=log, step=step)
        return float(self._suggest(name, asked))

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        """A whole number; as `suggest_float`."""
        return int(self._suggest(name, numeric(name, low, high, whole=True, log=log, step=step)))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of `choices`, which may be any values, and are the same in every trial.

        Raises:
            ValueError: there are none; or they were others before.
        """
        given = tuple(choices)
        if not given:
            raise ValueError(f"choices of {name!r} is empty, expected at least one")
        return self._suggest(name, Choice(given))

    def suggest_uniform(self, name: str, low: float, high: float) -> float:
        """`suggest_float` by its name of before."""
        return self.suggest_float(name, low, high)

    def suggest_loguniform(self, name: str, low: float, high: float) -> float:
        """`suggest_float(log=True)` by its name of before."""
        return self.suggest_float(name, low, high, log=True)

    def suggest_discrete_uniform(self, name: str, low: float, high: float, q: float) -> float:
        """`suggest_float(step=q)` by its name of before."""
        return self.suggest_float(name, low, high, step=q)

    def set_constraint(self, key: str, value: float) -> NoReturn:
        """Not there.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            "a study has no constraints: return a bad value, call trainyard.infeasible, or submit a job "
            "with `constraints`"
        )

    def _suggest(self, name: str, asked: Distribution) -> Any:
        """The value itself, of a choice too."""
        raise NotImplementedError


class Trial(Suggesting):
    """What an objective is called with; `study` is the one that it belongs to."""

    def __init__(
        self,
        number: int,
        asked: Optional[Mapping[str, Any]],
        fixed: Mapping[str, Any],
        space: Space,
        source: random.Random,
        decide: Callable[["Trial", int, float], str],
        lock: "threading.RLock",
        study: Results,
    ) -> None:
        self.number = number
        self.study = study
        self.params: Dict[str, Any] = {}
        self.distributions: Dict[str, Distribution] = {}
        self.user_attrs: Dict[str, Any] = {}
        self.system_attrs: Dict[str, Any] = {}
        self.datetime_start: Optional[datetime] = datetime.now()
        self._asked = asked
        self._fixed = fixed
        self._space = space
        self._random = source
        self._decide = decide
        self._lock = lock
        self._internal: Dict[str, Any] = {}
        self._reports: Dict[int, float] = {}
        self._stop = False
        # Whether it is exactly what the search has asked for.
        self.deviates = asked is None

    def _suggest(self, name: str, asked: Distribution) -> Any:
        _values.text("name", name)
        before = self.distributions.get(name)
        if before is not None:
            if before != asked:
                raise ValueError(f"{name!r} was {before} in this trial before and is {asked} now")
            return self.params[name]
        with self._lock:
            if self._space.widen(name, asked) and self._asked is not None:
                self.deviates = self.deviates or not asked.single()
            value = self._value(name, asked)
        self.distributions[name] = asked
        self._internal[name] = value
        self.params[name] = asked.choices[value] if isinstance(asked, Choice) else value
        return self.params[name]

    def _value(self, name: str, asked: Distribution) -> Any:
        if name in self._fixed:
            self.deviates = True
            return internal(name, self._fixed[name], asked)
        if asked.single():
            return asked.middle()
        if self._asked is None:
            # The first shows the space; whatever runs beside it looks elsewhere.
            return asked.middle() if self.number == 0 else asked.draw(self._random)
        value = self._asked.get(self._space.key(name))
        if value is not None and asked.holds(value):
            return value
        self.deviates = True
        return asked.draw(self._random)

    def report(self, value: float, step: int) -> None:
        """An intermediate value, for pruning. Steps begin at 0 or at 1; one that goes back says nothing to the pruner.

        Raises:
            TypeError, ValueError: no number, no step.
            NotImplementedError: the study has several objectives.
        """
        number = float(_values.number("value", value))
        at = _values.count("step", step)
        if at is None:
            raise TypeError("step is None, expected a whole number")
        if at in self._reports:
            warn_once("reported twice", f"step {at} was reported before: the first value counts")
            return
        newest = max(self._reports, default=-1)
        self._reports[at] = number
        if at > newest and self._decide(self, at, number) == "stop":
            self._stop = True

    def should_prune(self) -> bool:
        """Whether the study's pruner stops this trial, by what was reported. Without a pruner never."""
        return self._stop

    def set_user_attr(self, key: str, value: Any) -> None:
        """Keeps something with the trial."""
        self.user_attrs[_values.text("key", key)] = value

    def _ended(self, values: Optional[List[float]], state: TrialState) -> FrozenTrial:
        last = list(self._reports.values())[-1:] or None
        return FrozenTrial(
            number=self.number,
            state=state,
            values=last if state is TrialState.PRUNED else values,
            params=dict(self.params),
            intermediate_values=dict(self._reports),
            user_attrs=dict(self.user_attrs),
            distributions=dict(self.distributions),
            datetime_start=self.datetime_start,
            datetime_complete=datetime.now(),
            internal=dict(self._internal),
        )


class FixedTrial(Suggesting):
    """Values for an objective that is called by hand: `objective(FixedTrial({"x": 1.5}))`.

    Args:
        params: the value of each hyperparameter that it asks for.
        number: of the trial.
    """

    def __init__(self, params: Mapping[str, Any], number: int = 0) -> None:
        self.params = dict(params)
        self.number = number
        self.distributions: Dict[str, Distribution] = {}
        self.user_attrs: Dict[str, Any] = {}
        self.system_attrs: Dict[str, Any] = {}
        self.datetime_start: Optional[datetime] = datetime.now()

    def _suggest(self, name: str, asked: Distribution) -> Any:
        if name not in self.params:
            raise ValueError(f"{name!r} is asked for and not fixed; there are {list(self.params)}")
        internal(name, self.params[name], asked)
        self.distributions[name] = asked
        return self.params[name]

    def report(self, value: float, step: int) -> None:
        """Nothing."""

    def should_prune(self) -> bool:
        """Never."""
        return False

    def set_user_attr(self, key: str, value: Any) -> None:
        """Keeps something with the trial."""
        self.user_attrs[_values.text("key", key)] = value
