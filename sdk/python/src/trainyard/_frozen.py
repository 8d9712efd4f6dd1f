"""A trial that has ended: what of it is known, wherever it was run."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Dict, List, Mapping, Optional, Sequence

from . import _values
from ._space import Choice, Distribution


class TrialState(enum.Enum):
    """How far a trial is."""

    RUNNING = 0
    COMPLETE = 1
    PRUNED = 2
    FAIL = 3
    WAITING = 4

    def is_finished(self) -> bool:
        """Whether it has ended."""
        return self not in (TrialState.RUNNING, TrialState.WAITING)


@dataclass
class FrozenTrial:
    """A trial that has ended.

    Attributes:
        number: from 0.
        state: how it ended.
        values: what the objective returned, one for each direction; of a pruned one its last report; `None` of a
            failed one.
        params: what it asked for, and got.
        intermediate_values: its reports by step.
        user_attrs: what `set_user_attr` was given.
        distributions: the range or choices of each of `params`.
        datetime_start, datetime_complete: when it began and ended.
        system_attrs: always empty.
    """

    number: int
    state: TrialState
    values: Optional[List[float]]
    params: Dict[str, Any]
    intermediate_values: Dict[int, float] = field(default_factory=dict)
    user_attrs: Dict[str, Any] = field(default_factory=dict)
    distributions: Dict[str, Distribution] = field(default_factory=dict)
    datetime_start: Optional[datetime] = None
    datetime_complete: Optional[datetime] = None
    system_attrs: Dict[str, Any] = field(default_factory=dict)
    # Positions of choices, where `params` has the choices themselves.
    internal: Dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def value(self) -> Optional[float]:
        """The value of the one objective.

        Raises:
            RuntimeError: there are several.
        """
        if self.values is not None and len(self.values) > 1:
            raise RuntimeError(f"the study has {len(self.values)} objectives: see `values`")
        return self.values[0] if self.values else None

    @property
    def duration(self) -> Optional[timedelta]:
        """How long the objective took."""
        if self.datetime_start is None or self.datetime_complete is None:
            return None
        return self.datetime_complete - self.datetime_start

    @property
    def last_step(self) -> Optional[int]:
        """The newest step that was reported."""
        return max(self.intermediate_values, default=None)


def create_trial(
    *,
    state: TrialState = TrialState.COMPLETE,
    value: Optional[float] = None,
    values: Optional[Sequence[float]] = None,
    params: Optional[Mapping[str, Any]] = None,
    distributions: Optional[Mapping[str, Distribution]] = None,
    user_attrs: Optional[Mapping[str, Any]] = None,
    intermediate_values: Optional[Mapping[int, float]] = None,
) -> FrozenTrial:
    """A trial that has ended elsewhere, for `Study.add_trial`; arguments as the attributes of `FrozenTrial`.

    Raises:
        TypeError, ValueError: both or neither of `value` and `values` for a completed one; parameters without
            their distributions, or outside them.
    """
    given, known = dict(params or {}), dict(distributions or {})
    if given.keys() != known.keys():
        raise ValueError(
            f"params are {sorted(given)} and distributions {sorted(known)}, expected the same names"
        )
    if (value is None) == (values is None) and state is TrialState.COMPLETE:
        raise ValueError("expected either value or values of a completed trial")
    numbers = values if value is None else [value]
    now = datetime.now()
    return FrozenTrial(
        number=-1,
        state=state,
        values=None if numbers is None else [float(_values.number("value", v)) for v in numbers],
        params=given,
        intermediate_values=dict(intermediate_values or {}),
        user_attrs=dict(user_attrs or {}),
        distributions=known,
        datetime_start=now,
        datetime_complete=now,
        internal={name: internal(name, held, known[name]) for name, held in given.items()},
    )


def internal(name: str, value: Any, asked: Distribution) -> Any:
    """A value as the search has it: of a choice its position.

    Raises:
        ValueError: the distribution does not hold it.
    """
    if isinstance(asked, Choice):
        if value not in asked.choices:
            raise ValueError(f"{name!r} is to be {value!r}, expected one of {asked.choices}")
        return asked.choices.index(value)
    if not asked.holds(value):
        raise ValueError(f"{name!r} is to be {value!r}, expected {asked.low} to {asked.high}")
    return value
