"""`optuna.study`."""

from __future__ import annotations

from typing import Any, Mapping, Optional, Union

from .. import study as _study
from .._results import StudyDirection
from .._settings import Pruner, Sampler
from ..study import Directions, Study, load_study
from ..trial import FrozenTrial, TrialState
from .pruners import MedianPruner


def create_study(
    *,
    storage: None = None,
    sampler: Union[None, str, Sampler] = None,
    pruner: Union[None, str, Mapping[str, Any], Pruner] = None,
    study_name: Optional[str] = None,
    direction: Union[None, str, StudyDirection] = None,
    load_if_exists: bool = False,
    directions: Optional[Directions] = None,
    seed: Optional[int] = None,
) -> Study:
    """As `trainyard.create_study`, but as in Optuna with `MedianPruner()` where no pruner is given (`NopPruner()` is none).

    Raises:
        TypeError, ValueError: as there.
    """
    if pruner is None and (directions is None or len(directions) < 2):
        pruner = MedianPruner()
    return _study.create_study(
        direction=direction,
        directions=directions,
        study_name=study_name,
        sampler=sampler,
        pruner=pruner,
        seed=seed,
        storage=storage,
        load_if_exists=load_if_exists,
    )


class MaxTrialsCallback:
    """For `optimize(callbacks=...)`: stops the study once so many of its trials have ended in one of `states`."""

    def __init__(
        self, n_trials: int, states: "tuple[TrialState, ...] | None" = (TrialState.COMPLETE,)
    ) -> None:
        self._n_trials = n_trials
        self._states = states

    def __call__(self, study: Study, trial: FrozenTrial) -> None:
        if len(study.get_trials(states=self._states)) >= self._n_trials:
            study.stop()


__all__ = ["MaxTrialsCallback", "Study", "StudyDirection", "create_study", "load_study"]
