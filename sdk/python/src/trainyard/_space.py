"""The space of a define-by-run objective, as far as its trials have shown it, and its spec.

Names and choices are numbered in the spec: Optuna allows any text and any value, the spec does not.
PURE: no process, no clock, randomness as an argument.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace
from typing import Any, Dict, List, Mapping, Optional, Sequence, Set, Tuple, Union

# A parent with more values says little about when its children are asked for.
MAX_VALUES_OF_PARENT = 20


@dataclass(frozen=True)
class Numeric:
    """A range with both ends, of floats or whole numbers; `step` and `log` exclude each other."""

    low: float
    high: float
    whole: bool
    log: bool = False
    step: Optional[float] = None

    def holds(self, value: Any) -> bool:
        return bool(self.low <= value <= self.high)

    def single(self) -> bool:
        return self.low == self.high

    def middle(self) -> Any:
        if self.log:
            return self._settled(math.sqrt(self.low * self.high))
        return self._settled((self.low + self.high) / 2)

    def draw(self, source: random.Random) -> Any:
        if self.log:
            return self._settled(math.exp(source.uniform(math.log(self.low), math.log(self.high))))
        return self._settled(source.uniform(self.low, self.high))

    def _settled(self, value: float) -> Any:
        if self.step is not None:
            value = self.low + round((value - self.low) / self.step) * self.step
        value = min(max(value, self.low), self.high)
        return round(value) if self.whole else value

    def spec(self) -> Dict[str, Any]:
        found: Dict[str, Any] = {
            "type": "int" if self.whole else "double",
            "minval": self.low,
            "maxval": self.high,
        }
        if self.log:
            found["log"] = True
        elif self.step is not None and not (self.whole and self.step == 1):
            found["step"] = self.step
        return found


@dataclass(frozen=True)
class Choice:
    """One of a list of values, whatever they are."""

    choices: Tuple[Any, ...]

    def holds(self, value: Any) -> bool:
        return isinstance(value, int) and 0 <= value < len(self.choices)

    def single(self) -> bool:
        return len(self.choices) == 1

    def middle(self) -> int:
        return 0

    def draw(self, source: random.Random) -> int:
        return source.randrange(len(self.choices))

    def spec(self) -> Dict[str, Any]:
        return {"type": "categorical", "vals": list(range(len(self.choices)))}


Distribution = Union[Numeric, Choice]


def numeric(
    name: str, low: Any, high: Any, *, whole: bool, log: bool, step: Optional[Any]
) -> Numeric:
    """A range as `suggest_float` and `suggest_int` are given it.

    Raises:
        TypeError, ValueError: it is none; named by the hyperparameter.
    """
    kind = int if whole else float
    for what, given in (("low", low), ("high", high), ("step", step)):
        wrong = isinstance(given, bool) or not isinstance(given, int if whole else (int, float))
        if wrong and not (what == "step" and given is None):
            raise TypeError(
                f"{what} of {name!r} is {given!r} ({type(given).__name__}), "
                f"expected {'a whole number' if whole else 'a number'}"
            )
    low, high, step = kind(low), kind(high), None if step is None else kind(step)
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise ValueError(f"the range of {name!r} is {low} to {high}, expected low <= high")
    if log and low <= 0:
        raise ValueError(f"low of {name!r} is {low}, expected more than 0 with log=True")
    if step is not None and step <= 0:
        raise ValueError(f"step of {name!r} is {step}, expected more than 0")
    if log and step not in (None, 1 if whole else None):
        raise ValueError(f"{name!r} has step {step} and log=True, expected one of them")
    if step is not None:
        # As in Optuna: the last step that is not beyond.
        high = low + math.floor((high - low) / step + 1e-9) * step
    return Numeric(low, high, whole, log, None if log else step)


class Space:
    """All hyperparameters that were asked for, in the order in which they first were."""

    def __init__(self) -> None:
        self._known: Dict[str, Distribution] = {}

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, name: str) -> bool:
        return name in self._known

    def widen(self, name: str, asked: Distribution) -> bool:
        """Takes a distribution in; whether the space has grown by it.

        Raises:
            ValueError: the hyperparameter was of another kind before, or had other choices.
        """
        known = self._known.get(name)
        if known is None:
            self._known[name] = asked
            return True
        if known == asked:
            return False
        if isinstance(known, Numeric) and isinstance(asked, Numeric):
            low, high = min(known.low, asked.low), max(known.high, asked.high)
            if replace(asked, low=known.low, high=known.high) == known:
                self._known[name] = replace(known, low=low, high=high)
                return self._known[name] != known
        raise ValueError(
            f"{name!r} was {known} before and is {asked} now: expected the same kind, step, log and choices"
        )

    def is_single(self, name: str) -> bool:
        """Whether there is nothing to choose, so that the spec does not have it."""
        return self._known[name].single()

    def key(self, name: str) -> str:
        """The hyperparameter's name in the spec."""
        return f"p{list(self._known).index(name)}"

    def spec(self, seen: Sequence[Mapping[str, Any]]) -> Dict[str, Any]:
        """`hyperparameters`, with the conditions that the trials seen so far suggest."""
        found = {}
        for name, distribution in self._known.items():
            if distribution.single():
                continue
            entry = distribution.spec()
            condition = self.condition(name, seen)
            if condition is not None:
                parent, values = condition
                entry["when"] = {self.key(parent): values}
            found[self.key(name)] = entry
        return found

    def condition(
        self, name: str, seen: Sequence[Mapping[str, Any]]
    ) -> Optional[Tuple[str, List[Any]]]:
        """A parent and its values under which `name` was asked for, if that explains all trials.

        A guess, which a trial may prove wrong: then it is made anew.
        """
        having = [trial for trial in seen if name in trial]
        if len(having) == len(seen) or not having:
            return None
        for parent in self._known:
            if parent == name:
                return None  # What decided was asked for before.
            if not self._may_decide(parent):
                continue
            if not all(parent in trial for trial in having):
                continue
            under: Set[Any] = {trial[parent] for trial in having}
            otherwise = {t[parent] for t in seen if name not in t and parent in t}
            if not under & otherwise:
                return parent, sorted(under)
        return None

    def _may_decide(self, name: str) -> bool:
        known = self._known[name]
        if known.single():
            return False
        if isinstance(known, Choice):
            return len(known.choices) <= MAX_VALUES_OF_PARENT
        values = (known.high - known.low) / (known.step or 1) + 1
        return known.whole and values <= MAX_VALUES_OF_PARENT

    def prior(
        self,
        trial: Mapping[str, Any],
        value: float,
        seen: Sequence[Mapping[str, Any]],
        source: random.Random,
    ) -> Dict[str, Any]:
        """A finished trial as an entry of `prior_results`.

        What it has not asked for, and no condition explains, gets any value: its result would have been the same.
        """
        params: Dict[str, Any] = {}
        for name, distribution in self._known.items():
            if distribution.single():
                continue
            condition = self.condition(name, seen)
            if condition is not None:
                parent, values = condition
                if trial.get(parent) not in values or self.key(parent) not in params:
                    continue
            held = trial.get(name)
            params[self.key(name)] = distribution.draw(source) if held is None else held
        return {"params": params, "value": value}
