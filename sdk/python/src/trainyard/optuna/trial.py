"""`optuna.trial`."""

from __future__ import annotations

from ..trial import FixedTrial, FrozenTrial, Trial, TrialState, create_trial

BaseTrial = Trial

__all__ = ["BaseTrial", "FixedTrial", "FrozenTrial", "Trial", "TrialState", "create_trial"]
