"""Training programs as trials of Trainyard.

    import trainyard as ty

    config = ty.params({"lr": 0.1})            # the trial's configuration
    for epoch in range(start, 10):
        ...
        ty.report({"loss": loss}, epoch=epoch)
        with ty.checkpoint_dir(epoch=epoch) as folder:
            save(folder)
        if ty.should_stop():
            break

Outside Trainyard every call works and prints.
"""

from __future__ import annotations

from ._info import Info, Restored
from ._run import (
    Infeasible,
    checkpoint_dir,
    infeasible,
    info,
    latest_checkpoint,
    log_artifact,
    params,
    progress,
    report,
    should_stop,
)

__version__ = "0.1.0"

__all__ = [
    "Infeasible",
    "Info",
    "Restored",
    "checkpoint_dir",
    "infeasible",
    "info",
    "latest_checkpoint",
    "log_artifact",
    "params",
    "progress",
    "report",
    "should_stop",
]
