"""Ranges and choices, for `Study.ask(fixed_distributions)`, `create_trial` and `FrozenTrial.distributions`."""

from __future__ import annotations

from typing import Any, Optional, Sequence

from .._space import Choice, Distribution, Numeric, numeric

BaseDistribution = Distribution


def FloatDistribution(
    low: float, high: float, log: bool = False, step: Optional[float] = None
) -> Numeric:
    """A range of numbers, both ends included; arguments as in `Trial.suggest_float`."""
    return numeric("FloatDistribution", low, high, whole=False, log=log, step=step)


def IntDistribution(low: int, high: int, log: bool = False, step: int = 1) -> Numeric:
    """A range of whole numbers, both ends included; arguments as in `Trial.suggest_int`."""
    return numeric("IntDistribution", low, high, whole=True, log=log, step=step)


def CategoricalDistribution(choices: Sequence[Any]) -> Choice:
    """One of `choices`.

    Raises:
        ValueError: there are none.
    """
    given = tuple(choices)
    if not given:
        raise ValueError("choices is empty, expected at least one")
    return Choice(given)


__all__ = [
    "BaseDistribution",
    "CategoricalDistribution",
    "FloatDistribution",
    "IntDistribution",
]
