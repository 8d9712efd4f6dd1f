"""What a study has found: its trials, the best of them, the Pareto front, a table."""

from __future__ import annotations

import enum
import importlib
import threading
from typing import Any, Container, Dict, List, Optional, Sequence

from . import _values
from ._frozen import FrozenTrial, TrialState

# Attributes that hold mappings, which become columns of their own.
GROUPS = ("params", "user_attrs", "system_attrs")
ATTRIBUTES = (
    "number",
    "value",
    "datetime_start",
    "datetime_complete",
    "duration",
    "params",
    "user_attrs",
    "system_attrs",
    "state",
)


class StudyDirection(str, enum.Enum):
    """Whether less is better."""

    MINIMIZE = "minimize"
    MAXIMIZE = "maximize"


class Results:
    """What can be asked of a study."""

    def __init__(self, directions: Sequence[Any], study_name: Optional[str]) -> None:
        self._directions = [_direction(given) for given in directions]
        self.study_name = study_name
        self.user_attrs: Dict[str, Any] = {}
        self.metric_names: Optional[List[str]] = None
        self._ended: List[FrozenTrial] = []
        self._lock = threading.RLock()

    def stop(self) -> None:
        """No other trial begins; for objectives and callbacks."""
        raise NotImplementedError

    @property
    def direction(self) -> StudyDirection:
        """Of the one objective.

        Raises:
            RuntimeError: there are several.
        """
        if len(self._directions) > 1:
            raise RuntimeError(
                f"the study has {len(self._directions)} objectives: see `directions`"
            )
        return self._directions[0]

    @property
    def directions(self) -> List[StudyDirection]:
        """Of each objective."""
        return list(self._directions)

    @property
    def trials(self) -> List[FrozenTrial]:
        """Trials that have ended, by their numbers."""
        return self.get_trials()

    @property
    def best_trial(self) -> FrozenTrial:
        """The completed trial with the best value; of equal ones the first.

        Raises:
            ValueError: none has completed.
            RuntimeError: there are several objectives.
        """
        sign = 1 if self.direction is StudyDirection.MINIMIZE else -1
        complete = self.get_trials(states=[TrialState.COMPLETE])
        if not complete:
            raise ValueError("no trial has completed yet")
        return min(complete, key=lambda trial: sign * (trial.value or 0.0))

    @property
    def best_trials(self) -> List[FrozenTrial]:
        """The Pareto front: completed trials that no other is as good as in all objectives and better in one."""
        complete = self.get_trials(states=[TrialState.COMPLETE])
        signs = [1 if d is StudyDirection.MINIMIZE else -1 for d in self._directions]
        return front(complete, signs)

    @property
    def best_value(self) -> float:
        """The best trial's value; errors as of `best_trial`."""
        value = self.best_trial.value
        assert value is not None
        return value

    @property
    def best_params(self) -> Dict[str, Any]:
        """The best trial's parameters; errors as of `best_trial`."""
        return dict(self.best_trial.params)

    def get_trials(
        self, deepcopy: bool = True, states: Optional[Container[TrialState]] = None
    ) -> List[FrozenTrial]:
        """Trials that have ended, those in one of `states`; what `deepcopy` says makes no difference.

        Raises:
            TypeError: `deepcopy` is none of True and False.
        """
        if not isinstance(deepcopy, bool):
            raise TypeError(f"deepcopy is {deepcopy!r:.80}, expected True or False: see `states`")
        with self._lock:
            return [trial for trial in self._ended if states is None or trial.state in states]

    def trials_dataframe(self, attrs: Sequence[str] = ATTRIBUTES, multi_index: bool = False) -> Any:
        """A `pandas.DataFrame` with a row for each trial.

        Args:
            attrs: attributes of `FrozenTrial`; `params` and other mappings become columns such as `params_x`, `value`
                of several objectives `values_0`, `values_1`.
            multi_index: not there.

        Raises:
            ValueError: `multi_index`.
            ModuleNotFoundError: pandas is not installed.
        """
        if multi_index:
            raise ValueError(
                "multi_index is True, expected False: columns have names such as params_x"
            )
        return frame(self.trials, attrs, len(self._directions))

    def set_user_attr(self, key: str, value: Any) -> None:
        """Keeps something with the study."""
        self.user_attrs[_values.text("key", key)] = value

    def set_metric_names(self, metric_names: Sequence[str]) -> None:
        """Names of the objectives, for whoever reads the study.

        Raises:
            ValueError: they are not as many as there are objectives.
        """
        if len(metric_names) != len(self._directions):
            raise ValueError(
                f"metric_names has {len(metric_names)} entries, expected {len(self._directions)}"
            )
        self.metric_names = list(metric_names)


def _direction(given: Any) -> StudyDirection:
    try:
        return StudyDirection(given)
    except ValueError:
        expected = [direction.value for direction in StudyDirection]
        raise ValueError(f"direction is {given!r}, expected one of {expected}") from None


def front(trials: Sequence[FrozenTrial], signs: Sequence[int]) -> List[FrozenTrial]:
    """Those that no other is as good as in all values and better in one; `signs`: 1 to minimize, -1 to maximize."""
    points = [[s * v for s, v in zip(signs, trial.values or [])] for trial in trials]
    return [
        trial
        for trial, point in zip(trials, points)
        if not any(_dominates(other, point) for other in points)
    ]


def _dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    return all(a <= b for a, b in zip(one, other)) and any(a < b for a, b in zip(one, other))


def frame(trials: Sequence[FrozenTrial], attrs: Sequence[str], objectives: int) -> Any:
    """A `pandas.DataFrame` with a row for each trial, named as in `Study.trials_dataframe`.

    Raises:
        ModuleNotFoundError: pandas is not installed.
    """
    rows = [_row(trial, attrs, objectives) for trial in trials]
    names = {name: None for row in rows for name in row}
    return importlib.import_module("pandas").DataFrame(rows, columns=list(names))


def _row(trial: FrozenTrial, attrs: Sequence[str], objectives: int) -> Dict[str, Any]:
    row: Dict[str, Any] = {}
    for name in attrs:
        if name in GROUPS:
            row.update((f"{name}_{key}", value) for key, value in getattr(trial, name).items())
        elif name in ("value", "values") and objectives > 1:
            found: Sequence[Optional[float]] = trial.values or [None] * objectives
            row.update((f"values_{i}", value) for i, value in enumerate(found))
        elif name == "state":
            row[name] = trial.state.name
        else:
            row[name] = getattr(trial, name)
    return row
