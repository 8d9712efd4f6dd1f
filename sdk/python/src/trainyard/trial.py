"""A trial of a study: what an objective is called with, and what is left of it.

Knows the space, and nothing of the search: what was asked for is handed in.
"""

from __future__ import annotations

import enum
import random
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Optional, Sequence

from . import _values
from ._log import warn_once
from ._space import Choice, Distribution, Space, numeric


class TrialPruned(Exception):
    """An objective raises it where `should_prune` says so."""


class TrialState(enum.Enum):
    RUNNING = 0
    COMPLETE = 1
    PRUNED = 2
    FAIL = 3

    def is_finished(self) -> bool:
        return self is not TrialState.RUNNING


@dataclass
class FrozenTrial:
    """A trial that has ended.

    Attributes:
        number: from 0.
        state: how it ended.
        value: what the objective returned; of a pruned one its last report; `None` of a failed one.
        params: what it asked for, and got.
        intermediate_values: its reports by step.
        user_attrs: what `set_user_attr` was given.
        duration_s: seconds that the objective took.
    """

    number: int
    state: TrialState
    value: Optional[float]
    params: Dict[str, Any]
    intermediate_values: Dict[int, float]
    user_attrs: Dict[str, Any]
    duration_s: float = 0.0
    # Positions of choices, where `params` has the choices themselves.
    internal: Dict[str, Any] = field(default_factory=dict, repr=False)


class Trial:
    """What an objective is called with."""

    def __init__(
        self,
        number: int,
        asked: Optional[Dict[str, Any]],
        fixed: Dict[str, Any],
        space: Space,
        source: random.Random,
        decide: Callable[["Trial", int, float], str],
    ) -> None:
        self.number = number
        self.params: Dict[str, Any] = {}
        self.user_attrs: Dict[str, Any] = {}
        self._asked = asked
        self._fixed = fixed
        self._space = space
        self._random = source
        self._decide = decide
        self._internal: Dict[str, Any] = {}
        self._distributions: Dict[str, Distribution] = {}
        self._reports: Dict[int, float] = {}
        self._stop = False
        # Whether it is exactly what the search has asked for.
        self.deviates = asked is None

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
        return given[self._suggest(name, Choice(given))]

    def _suggest(self, name: str, asked: Distribution) -> Any:
        _values.text("name", name)
        before = self._distributions.get(name)
        if before is not None:
            if before != asked:
                raise ValueError(f"{name!r} was {before} in this trial before and is {asked} now")
            return self._internal[name]
        if self._space.widen(name, asked) and self._asked is not None:
            self.deviates = self.deviates or not asked.single()
        value = self._value(name, asked)
        self._distributions[name] = asked
        self._internal[name] = value
        self.params[name] = asked.choices[value] if isinstance(asked, Choice) else value
        return value

    def _value(self, name: str, asked: Distribution) -> Any:
        if name in self._fixed:
            self.deviates = True
            return self._of_fixed(name, asked)
        if asked.single():
            return asked.middle()
        if self._asked is None:
            return asked.middle()
        value = self._asked.get(self._space.key(name))
        if value is not None and asked.holds(value):
            return value
        self.deviates = True
        return asked.draw(self._random)

    def _of_fixed(self, name: str, asked: Distribution) -> Any:
        value = self._fixed[name]
        if isinstance(asked, Choice):
            if value not in asked.choices:
                raise ValueError(f"{name!r} is to be {value!r}, expected one of {asked.choices}")
            return asked.choices.index(value)
        if not asked.holds(value):
            raise ValueError(f"{name!r} is to be {value!r}, expected {asked.low} to {asked.high}")
        return value

    def report(self, value: float, step: int) -> None:
        """An intermediate value, for pruning. Steps grow, from 0 or from 1.

        Raises:
            TypeError, ValueError: no number, no step.
        """
        number = float(_values.number("value", value))
        at = _values.count("step", step)
        if at is None:
            raise TypeError("step is None, expected a whole number")
        if at in self._reports:
            warn_once("reported twice", f"step {at} was reported before: the first value counts")
            return
        self._reports[at] = number
        if self._decide(self, at, number) == "stop":
            self._stop = True

    def should_prune(self) -> bool:
        """Whether the study's pruner stops this trial, by what was reported. Without a pruner never."""
        return self._stop

    def set_user_attr(self, key: str, value: Any) -> None:
        """Keeps something with the trial."""
        self.user_attrs[_values.text("key", key)] = value
