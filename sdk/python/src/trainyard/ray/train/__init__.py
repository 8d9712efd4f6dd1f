"""`ray.train` (v2): what a training function calls, and the configuration of a run."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ..._instead import lacking
from .._checkpoint import Checkpoint
from .._configs import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from .._reporting import TrainContext, get_checkpoint, get_context, get_dataset_shard, report
from .._results import Result

if TYPE_CHECKING:
    from . import torch as torch

__all__ = [
    "Checkpoint",
    "CheckpointConfig",
    "FailureConfig",
    "Result",
    "RunConfig",
    "ScalingConfig",
    "TrainContext",
    "get_checkpoint",
    "get_context",
    "get_dataset_shard",
    "report",
]

_INSTEAD = {
    "lightning": "trainyard.lightning.Callback",
    "huggingface": "trainyard.transformers.Callback",
    "tensorflow": "TF_CONFIG, which is set for each rank",
    "xgboost": "report in a callback",
    "lightgbm": "report in a callback",
    "get_all_reported_checkpoints": "`coordinatorctl checkpoint list JOB`",
    "get_preemption_info": "trainyard.should_stop",
}


def __getattr__(name: str) -> Any:
    if name == "torch":
        return importlib.import_module(f"{__name__}.torch")
    raise lacking(__name__, name, _INSTEAD)
