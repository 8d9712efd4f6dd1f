"""What a training function calls: reports, the context, the checkpoint to go on from."""

from __future__ import annotations

import os
import sys
from typing import Any, Mapping, NoReturn, Optional

from .. import _ranks, _run, _session, _values
from .._log import warn_once
from ._checkpoint import Checkpoint, path_of


def report(
    metrics: Mapping[str, Any],
    checkpoint: Optional[Checkpoint] = None,
    checkpoint_dir_name: Optional[str] = None,
    **options: Any,
) -> None:
    """A training iteration's end; ends the process (status 0) where the trial is to stop.

    Rank 0's metrics and checkpoint count, and nobody waits for the others, but with `torch.distributed` for rank 0's
    answer whether to stop. What is no number is left out, which is told once.

    Raises:
        TypeError: `checkpoint` is none, or `metrics` no mapping.
    """
    if options:
        warn_once("report options", f"report: {', '.join(sorted(options))} have no effect here")
    if not isinstance(metrics, Mapping):
        raise TypeError(f"metrics is {metrics!r:.80}, expected a mapping of names to numbers")
    numbers = {str(name): value for name, value in metrics.items() if _is_number(value)}
    left_out = sorted(str(name) for name in metrics if str(name) not in numbers)
    if left_out:
        warn_once(f"metrics {left_out}", f"{', '.join(left_out)} are no numbers and not reported")
    if not numbers:
        raise ValueError(f"metrics is {dict(metrics)!r:.80}, expected at least one number")
    _run.report(numbers, checkpoint=path_of(checkpoint))
    if _run.should_stop():
        sys.exit(0)


def _is_number(value: Any) -> bool:
    try:
        _values.number("metric", value)
    except (TypeError, ValueError):
        return False
    return True


def get_checkpoint() -> Optional[Checkpoint]:
    """What this attempt goes on from; `None`: it begins anew. Not what it has reported itself."""
    path = _run.latest_checkpoint()
    return None if path is None else Checkpoint(path)


def get_dataset_shard(*_: Any, **__: Any) -> NoReturn:
    """Not there.

    Raises:
        NotImplementedError: always.
    """
    raise NotImplementedError(
        "there are no data sets of Ray: each rank reads its own part, as trainyard.torch.prepare does"
    )


class TrainContext:
    """Who this process is."""

    def get_world_size(self) -> int:
        """How many ranks the trial has."""
        return _run.info().world_size

    def get_world_rank(self) -> int:
        """This process's place among them."""
        return _ranks.rank(_session.current().info.rank)

    def get_local_rank(self) -> int:
        """Its place among those of its worker."""
        return _of_launcher("LOCAL_RANK", 0)

    def get_local_world_size(self) -> int:
        """How many ranks its worker has."""
        return _of_launcher("LOCAL_WORLD_SIZE", 1)

    def get_node_rank(self) -> int:
        """Its worker's place among the trial's workers."""
        return _of_launcher("GROUP_RANK", 0)

    def get_experiment_name(self) -> Optional[str]:
        """The job's id."""
        return _run.info().job

    def get_trial_id(self) -> str:
        """The trial's number within its job."""
        return str(_run.info().trial)

    def get_trial_name(self) -> str:
        """Job and trial."""
        return f"{_run.info().job or 'local'}_{_run.info().trial}"

    def get_trial_dir(self) -> str:
        """The working directory."""
        return os.getcwd()

    def get_storage(self) -> NoReturn:
        """Not there.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            "files are kept by report(checkpoint=...) and trainyard.log_artifact"
        )


def get_context() -> TrainContext:
    """The context of this process."""
    return TrainContext()


def _of_launcher(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() else default
