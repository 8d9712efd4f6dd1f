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

    job = ty.submit("job.yaml")                # on a cluster
    study = ty.create_study()                  # in this process, in Optuna's shape

    @ty.remote                                 # a function as the program of a job
    def train(config): ...
    job = train.search({"lr": ty.space.loguniform(1e-4, 1e-1)}, objectives="loss", n_trials=20)

Outside Trainyard every call works and prints. `ty.torch`, `ty.keras`, `ty.lightning` and
`ty.transformers` need their frameworks, and import them when they are first named.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from . import space as space
from ._ctl import ControlError
from ._function import RemoteFunction, remote
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
from .job import Job, JobFailed, run, submit
from .study import Study, create_study
from .trial import FrozenTrial, Trial, TrialPruned, TrialState

if TYPE_CHECKING:
    from . import keras as keras
    from . import lightning as lightning
    from . import torch as torch
    from . import transformers as transformers

__version__ = "0.1.0"

__all__ = [
    "ControlError",
    "FrozenTrial",
    "Infeasible",
    "Info",
    "Job",
    "JobFailed",
    "RemoteFunction",
    "Restored",
    "Study",
    "Trial",
    "TrialPruned",
    "TrialState",
    "checkpoint_dir",
    "create_study",
    "infeasible",
    "info",
    "latest_checkpoint",
    "log_artifact",
    "params",
    "progress",
    "remote",
    "report",
    "run",
    "should_stop",
    "space",
    "submit",
]

_FRAMEWORKS = ("keras", "lightning", "torch", "transformers")


def __getattr__(name: str) -> Any:
    """The modules of frameworks, which are imported when they are first named."""
    if name not in _FRAMEWORKS:
        raise AttributeError(f"module 'trainyard' has no attribute {name!r}")
    try:
        return importlib.import_module(f"trainyard.{name}")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"trainyard.{name} needs {error.name}, which is not installed", name=error.name
        ) from error
