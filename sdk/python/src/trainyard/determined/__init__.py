"""Names by which scripts know Determined's core API: `import trainyard.determined as det`.

What a trial's code calls; experiments, the master and its `Trial` classes are not here (docs/moving-from-determined.md).
"""

from __future__ import annotations

import os
from typing import Any, Dict, List, Optional

from .. import _run
from .._instead import lacking
from . import core

__all__ = ["ClusterInfo", "TrialInfo", "core", "get_cluster_info"]


class TrialInfo:
    """The trial of this process: `trial_id`, `experiment_id` (the job's id), `trial_seed` (32 bits), `hparams`."""

    def __init__(self) -> None:
        info = _run.info()
        self.trial_id = info.trial
        self.experiment_id = info.job
        self.trial_seed = info.seed32
        self.hparams: Dict[str, Any] = _run.params()


class ClusterInfo:
    """What a trial is told: its `trial`, the checkpoint to go on from, its ranks' hosts."""

    task_type = "TRIAL"

    def __init__(self) -> None:
        self.trial = TrialInfo()

    @property
    def latest_checkpoint(self) -> Optional[str]:
        """For `core_context.checkpoint.restore_path`; `None`: it begins anew."""
        path = _run.latest_checkpoint()
        return None if path is None else str(path)

    @property
    def container_addrs(self) -> List[str]:
        """The hosts of the trial's ranks, each once."""
        hosts: List[str] = os.environ.get("TRAINYARD_RANK_HOSTS", "localhost").split(",")
        return list(dict.fromkeys(hosts))

    @property
    def container_rank(self) -> int:
        """This host's place among them."""
        return int(os.environ.get("GROUP_RANK", "0"))


def get_cluster_info() -> Optional[ClusterInfo]:
    """Of this trial; `None` outside Trainyard."""
    return ClusterInfo() if _run.info().job is not None else None


_INSTEAD = {
    "pytorch": "a plain loop with trainyard.torch, or trainyard.lightning.Callback",
    "keras": "trainyard.keras.Callback",
    "transformers": "trainyard.transformers.Callback",
    "experimental": "trainyard.submit and trainyard.Job",
    "launch": "torchrun's variables, which are set: `entrypoint: {command: [python3, train.py]}`",
}


def __getattr__(name: str) -> Any:
    raise lacking(__name__, name, _INSTEAD)
