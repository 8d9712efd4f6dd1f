"""`determined.core`: the context of a trial, its reports, checkpoints and stops."""

from __future__ import annotations

import contextlib
import enum
import json
import os
import shutil
import uuid
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, NoReturn, Optional, Tuple, Union

from .. import _ranks, _run, _session, _values
from .._log import warn_once
from .._settings import without_effect

STEPS = "steps_completed"
# The file of a checkpoint that keeps what it was stored with.
METADATA = "metadata.json"
PathLike = Union[str, "os.PathLike[str]"]


class PreemptMode(enum.Enum):
    """Who asks whether to stop. With `torch.distributed` all ranks have to, whatever it says; they get rank 0's answer."""

    WorkersAskChief = "WORKERS_ASK_CHIEF"
    ChiefOnly = "CHIEF_ONLY"
    WorkersAskMaster = "WORKERS_ASK_MASTER"


class EarlyExitReason(enum.Enum):
    """Why a trial ends early."""

    INVALID_HP = "EXITED_REASON_INVALID_HP"


class DistributedContext:
    """The ranks of the trial."""

    @classmethod
    def from_torch_distributed(cls, chief_ip: Optional[str] = None) -> "DistributedContext":
        """The ranks that `torch.distributed` has; `chief_ip` makes no difference."""
        return cls()

    @property
    def rank(self) -> int:
        """This process's place among the ranks."""
        return _ranks.rank(_session.current().info.rank)

    @property
    def size(self) -> int:
        """How many ranks there are."""
        group = _ranks.distributed()
        return int(group.get_world_size()) if group is not None else _run.info().world_size

    @property
    def local_rank(self) -> int:
        """Its place among those of its worker."""
        return int(os.environ.get("LOCAL_RANK", "0"))

    @property
    def local_size(self) -> int:
        """How many ranks its worker has."""
        return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))

    def get_rank(self) -> int:
        """`rank`."""
        return self.rank

    def get_size(self) -> int:
        """`size`."""
        return self.size

    def get_local_rank(self) -> int:
        """`local_rank`."""
        return self.local_rank

    def allgather(self, stuff: Any) -> List[Any]:
        """What every rank has given, in their order, by `torch.distributed`.

        Raises:
            RuntimeError: there are several ranks, and it is not initialised.
        """
        group = self._group()
        if group is None:
            return [stuff]
        found: List[Any] = [None] * self.size
        group.all_gather_object(found, stuff)
        return found

    def gather(self, stuff: Any) -> Optional[List[Any]]:
        """As `allgather`, on rank 0; `None` on others."""
        found = self.allgather(stuff)
        return found if self.rank == 0 else None

    def broadcast(self, stuff: Any) -> Any:
        """What rank 0 has given."""
        return self.allgather(stuff)[0]

    def _group(self) -> Any:
        group = _ranks.distributed()
        if group is None and self.size > 1:
            raise RuntimeError(
                "torch.distributed is not initialised, expected it to be: call init_process_group"
            )
        return group


class TrainContext:
    """Reports. What is reported of training is kept until the next validation, which is an epoch of Trainyard."""

    def __init__(self) -> None:
        self._training: Dict[str, Any] = {}
        self._steps: Optional[int] = None

    def report_training_metrics(
        self,
        steps_completed: int,
        metrics: Mapping[str, Any],
        batch_metrics: Optional[List[Dict[str, Any]]] = None,
    ) -> None:
        """Keeps the newest values for the next validation's report, where a name of both becomes `training/NAME`.

        Raises:
            TypeError, ValueError: as `trainyard.report`.
        """
        self._training.update(_values.metrics(metrics))
        self._steps = _values.count(STEPS, steps_completed)

    def report_validation_metrics(self, steps_completed: int, metrics: Mapping[str, Any]) -> None:
        """Reports the end of an epoch, at this step.

        Raises:
            TypeError, ValueError: as `trainyard.report`.
        """
        both = {
            f"training/{name}" if name in metrics else name: value
            for name, value in self._training.items()
        }
        self._training = {}
        _run.report({**both, **metrics}, step=steps_completed)

    def report_metrics(self, group: str, steps_completed: int, metrics: Mapping[str, Any]) -> None:
        """Of the groups "training" and "validation" as above; of others as of training, with `GROUP/` before the names."""
        if group == "validation":
            self.report_validation_metrics(steps_completed, metrics)
        elif group == "training":
            self.report_training_metrics(steps_completed, metrics)
        else:
            named = {f"{group}/{name}": value for name, value in metrics.items()}
            self.report_training_metrics(steps_completed, named)

    def report_progress(self, progress: float) -> None:
        """As `trainyard.progress`."""
        _run.progress(progress)

    def report_early_exit(self, reason: EarlyExitReason) -> None:
        """The configuration cannot be: ends the program."""
        _run.infeasible(reason.name)

    def set_status(self, status: str) -> None:
        """A line of the log."""
        print(status, flush=True)

    def upload_tensorboard_files(self, *_: Any, **__: Any) -> None:
        """Nothing, which is told once."""
        warn_once("tensorboard", "files of TensorBoard are not kept: see trainyard.log_artifact")

    def get_tensorboard_path(self) -> Path:
        """A folder in the working directory."""
        return Path("tensorboard")

    def _flush(self) -> None:
        """What no validation has followed."""
        if self._training:
            training, self._training = self._training, {}
            _run.report(training, step=self._steps)


class CheckpointContext:
    """Checkpoints are folders; their ids are paths of this process's own copies."""

    def __init__(self, train: TrainContext, distributed: DistributedContext) -> None:
        self._train = train
        self._distributed = distributed

    @contextlib.contextmanager
    def store_path(
        self, metadata: Optional[Mapping[str, Any]] = None, *, shard: bool = False
    ) -> Iterator[Tuple[Path, str]]:
        """A new folder, which becomes a checkpoint when the block is left.

        Args:
            metadata: with `steps_completed`; kept in `metadata.json`.
            shard: not there: a checkpoint has to be whole on rank 0.

        Raises:
            ValueError: `shard`, or no `steps_completed`.
        """
        steps = self._steps(metadata, shard)
        with _run.checkpoint_dir(step=steps) as folder:
            yield folder, uuid.uuid4().hex
            if self._distributed.rank == 0:
                _write_metadata(folder, metadata or {})

    def upload(
        self,
        ckpt_dir: Optional[PathLike],
        metadata: Optional[Mapping[str, Any]] = None,
        *,
        shard: bool = False,
        selector: Optional[Callable[[str], bool]] = None,
    ) -> str:
        """A copy of a folder as a checkpoint; its id is of no use here.

        Raises:
            ValueError: as `store_path`; or `selector`, which is not there.
        """
        if selector is not None or ckpt_dir is None:
            raise ValueError("selector is expected to be None, and ckpt_dir a folder")
        with self.store_path(metadata, shard=shard) as (folder, its_id):
            shutil.copytree(ckpt_dir, folder, dirs_exist_ok=True)
        return its_id

    @contextlib.contextmanager
    def restore_path(self, storage_id: str, *_: Any, **options: Any) -> Iterator[Path]:
        """The folder of `ClusterInfo.latest_checkpoint`, which is this process's own.

        Raises:
            ValueError: it is another.
        """
        without_effect("restore_path", options)
        yield _restored(storage_id)

    def download(self, storage_id: str, ckpt_dir: PathLike, *_: Any, **options: Any) -> None:
        """A copy of the folder of `ClusterInfo.latest_checkpoint`."""
        without_effect("download", options)
        shutil.copytree(_restored(storage_id), ckpt_dir, dirs_exist_ok=True)

    def get_metadata(self, storage_id: str) -> Dict[str, Any]:
        """What the checkpoint was stored with."""
        return _read_metadata(_restored(storage_id))

    def delete(self, storage_id: str) -> NoReturn:
        """Not there.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("the job's checkpoint_storage says how many are kept")

    def _steps(self, metadata: Optional[Mapping[str, Any]], shard: bool) -> int:
        if shard:
            raise ValueError(
                "shard is True, expected False: a checkpoint has to be whole on rank 0"
            )
        steps = _values.count(STEPS, (metadata or {}).get(STEPS))
        if steps is None:
            raise ValueError(f"metadata is {metadata!r:.80}, expected {STEPS} in it")
        return steps


class PreemptContext:
    """Whether to stop."""

    def should_preempt(self, auto_ack: bool = True) -> bool:
        """As `trainyard.should_stop`: also at a rung, and where the job was cancelled."""
        return _run.should_stop()

    def acknowledge_preemption_signal(self) -> None:
        """Nothing."""


class SearcherOperation:
    """The epochs until which this attempt is to train."""

    def __init__(self, length: int) -> None:
        self.length = length

    def report_progress(self, length: float) -> None:
        """A sign of life."""
        _run.progress(min(1.0, float(length) / self.length))

    def report_completed(self, searcher_metric: Any) -> None:
        """Nothing: the searcher reads the objective from the reports."""


class SearcherContext:
    """How far to train."""

    def operations(self, *_: Any, **__: Any) -> Iterator[SearcherOperation]:
        """One operation, whose length is in epochs.

        Raises:
            NotImplementedError: the job has no scheduler with rungs.
        """
        until = _run.info().until_epoch
        if until is None:
            raise NotImplementedError(
                "this trial has no rung: train for as long as your configuration says, until should_preempt()"
            )
        yield SearcherOperation(until)


class Context:
    """What `init` gives: `train`, `checkpoint`, `preempt`, `distributed`, `searcher`."""

    def __init__(self, distributed: Optional[DistributedContext]) -> None:
        self.distributed = distributed or DistributedContext()
        self.train = TrainContext()
        self.checkpoint = CheckpointContext(self.train, self.distributed)
        self.preempt = PreemptContext()
        self.searcher = SearcherContext()

    def __enter__(self) -> "Context":
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is None:
            self.train._flush()


def init(
    *,
    distributed: Optional[DistributedContext] = None,
    preempt_mode: PreemptMode = PreemptMode.WorkersAskChief,
    **options: Any,
) -> Context:
    """The context of this trial, for a `with` block. What else Determined takes has no effect, which is told once."""
    without_effect("core.init", options)
    return Context(distributed)


def _restored(storage_id: str) -> Path:
    path = _run.latest_checkpoint()
    if path is None or str(path) != storage_id:
        raise ValueError(
            f"storage_id is {storage_id!r}, expected what get_cluster_info().latest_checkpoint says"
        )
    return path


def _write_metadata(folder: Path, metadata: Mapping[str, Any]) -> None:
    (folder / METADATA).write_text(json.dumps(dict(metadata)))


def _read_metadata(folder: Path) -> Dict[str, Any]:
    file = folder / METADATA
    found: Dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    return found
