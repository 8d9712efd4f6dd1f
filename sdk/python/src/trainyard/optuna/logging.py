"""`optuna.logging`, for the logger "trainyard". A study logs what is wrong, and each trial with `show_progress_bar` only."""

from __future__ import annotations

import logging as _logging

from .._log import logger

CRITICAL, FATAL = _logging.CRITICAL, _logging.FATAL
ERROR = _logging.ERROR
WARNING, WARN = _logging.WARNING, _logging.WARNING
INFO = _logging.INFO
DEBUG = _logging.DEBUG


def set_verbosity(verbosity: int) -> None:
    """Messages of less than this level are left out."""
    logger.setLevel(verbosity)


def get_verbosity() -> int:
    """The level in effect."""
    return logger.getEffectiveLevel()


def get_logger(name: str) -> _logging.Logger:
    """A logger below the package's."""
    return logger.getChild(name)


def enable_propagation() -> None:
    """Messages go to the root logger's handlers, too."""
    logger.propagate = True


def disable_propagation() -> None:
    """They do not."""
    logger.propagate = False


def enable_default_handler() -> None:
    """Nothing: the package has no handler of its own."""


def disable_default_handler() -> None:
    """Nothing: the package has no handler of its own."""
