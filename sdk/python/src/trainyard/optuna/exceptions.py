"""Errors by the names that Optuna gives them."""

from __future__ import annotations

from ..trial import TrialPruned

__all__ = ["TrialPruned"]
