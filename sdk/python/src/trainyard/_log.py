"""What the package has to say about itself: through the logger "trainyard", each kind once.

A logger and not `warnings`: under `-W error` a warning would end a training run over a lost connection.
"""

from __future__ import annotations

import logging
from typing import Set

logger = logging.getLogger("trainyard")

# Refusals name what was given, so that each may be a kind of its own.
MAX_KINDS = 100

_told: Set[str] = set()


def warn_once(kind: str, message: str) -> None:
    """Logs a warning unless one of this kind was logged by this process."""
    if kind not in _told and len(_told) < MAX_KINDS:
        _told.add(kind)
        logger.warning("trainyard: %s", message)


def forget() -> None:
    """Every kind may be told once more (for tests)."""
    _told.clear()
