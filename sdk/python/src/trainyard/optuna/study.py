"""`optuna.study`."""

from __future__ import annotations

from .._results import StudyDirection
from ..study import Study, create_study, load_study
from ..trial import FrozenTrial, TrialState


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
