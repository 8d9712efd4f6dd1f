"""Names by which scripts know Ray Train v2 and Ray Tune: `import trainyard.ray as ray`, `from trainyard.ray import train, tune`.

A trial or a training run is a job of Trainyard (docs/moving-from-ray-train.md): on the coordinator of
`TRAINYARD_COORDINATOR` where that is set, else on this machine. Ray's tasks, actors and data sets are not here.
"""

from __future__ import annotations

from typing import Any

from .._instead import lacking
from . import train, tune

__all__ = ["init", "is_initialized", "shutdown", "train", "tune"]


def init(*_: Any, **__: Any) -> None:
    """Nothing: there is nothing to begin."""


def is_initialized() -> bool:
    """True."""
    return True


def shutdown(*_: Any, **__: Any) -> None:
    """Nothing."""


_INSTEAD = {
    "remote": "trainyard.remote, a function as the program of a job",
    "data": "a program reads its own data",
    "serve": "nothing",
    "get": "a job's best() and trials()",
    "put": "files, or the configuration",
}


def __getattr__(name: str) -> Any:
    raise lacking(__name__, name, _INSTEAD)
