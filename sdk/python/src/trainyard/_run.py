"""What a training program calls. Each function checks its arguments first, on every rank alike.

Inside Trainyard they speak over the channel (or standard output), outside they print.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterator, Mapping, NoReturn, Optional, Sequence, Union

from . import _ranks, _session, _values
from ._info import Begun, Info
from ._log import warn_once
from ._near import near

PathLike = Union[str, "os.PathLike[str]"]

# Where checkpoints go outside Trainyard, below the working directory.
LOCAL_FOLDER = "trainyard-checkpoints"
# As many names as one warning has.
NAMED = 8
# The exit status by which a program says that its configuration cannot be.
INFEASIBLE_STATUS = 78


class Infeasible(SystemExit):
    """The configuration cannot be. Uncaught, it ends the program with exit status 78."""

    def __init__(self, reason: str) -> None:
        super().__init__(INFEASIBLE_STATUS)
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


def params(defaults: Optional[Mapping[str, Any]] = None) -> Dict[str, Any]:
    """The configuration of this trial: names to numbers, texts and booleans. A new dict each time.

    Args:
        defaults: values for names that the configuration does not have, so for all of them outside
            Trainyard, and for hyperparameters that are inactive in this trial. Names that are no hyperparameters
            of the job keep their defaults, which is told once: it may be meant, and may be a misspelt name.

    Raises:
        TypeError: `defaults` is no mapping.
    """
    if defaults is not None and not isinstance(defaults, Mapping):
        raise TypeError(
            f"defaults is {defaults!r:.80} ({type(defaults).__name__}), expected a mapping"
        )
    session = _session.current()
    if defaults and session.speaks():
        _tell_unknown(defaults, session.begun)
    return {**(defaults or {}), **session.begun.params}


def _tell_unknown(defaults: Mapping[str, Any], begun: Begun) -> None:
    """A warning and no error: constants stand among defaults, too."""
    known = begun.hyperparameters
    if known is None:
        return
    unknown = [str(name) for name in defaults if name not in known and name not in begun.params]
    if unknown:
        named = ", ".join(f"{name!r}{near(name, known).rstrip('?')}" for name in unknown[:NAMED])
        warn_once(
            f"defaults {unknown}",
            f"no hyperparameters of this job, so that params() gives their defaults: {named}"
            f"{_more(unknown)} (it has {', '.join(known[:NAMED]) or 'none'}{_more(known)})",
        )


def _more(names: Sequence[str]) -> str:
    return f" and {len(names) - NAMED} more" if len(names) > NAMED else ""


def info() -> Info:
    """Who this process is: job, trial, attempt, rank, seed; see `Info`."""
    return _session.current().info


def report(
    metrics: Mapping[str, Any],
    *,
    epoch: Optional[int] = None,
    step: Optional[int] = None,
    checkpoint: Optional[PathLike] = None,
) -> None:
    """Tells Trainyard how training goes. Only rank 0's report counts; others may call it, too.

    Args:
        metrics: names to numbers: Python's, NumPy's, tensors of one element (PyTorch, JAX), booleans as
            0 and 1. NaN and infinity are kept in the curve, and mean a failed trial for the objective.
        epoch: the epoch that has ended. Count from 0 or from 1, but always from the same. Reports of one
            epoch are merged. Without any each report is an epoch of its own.
        step: optimizer steps since the trial began (not since this attempt began).
        checkpoint: a folder or file that belongs to this report, written whole. Below the attempt's
            checkpoint folder (as `checkpoint_dir` gives) it is moved away, otherwise copied; the call
            returns once Trainyard has it.

    Raises:
        TypeError: a value is not of the accepted kind.
        ValueError: a value is out of range, several numbers, or a path that does not exist.
    """
    session = _session.current()
    plain = {name: _values.jsonable(value) for name, value in _values.metrics(metrics).items()}
    message: Dict[str, Any] = {"type": "report", "metrics": plain}
    message.update(_place(epoch, step))
    if checkpoint is not None:
        path = _checkpoint_path(checkpoint, session.speaks())
        if path is not None:
            message["checkpoint"] = path
            if path in session.open_folders:
                session.open_folders[path] = True
    session.report(message)


def _place(epoch: Any, step: Any) -> Dict[str, int]:
    given = {"epoch": _values.count("epoch", epoch), "step": _values.count("step", step)}
    return {name: value for name, value in given.items() if value is not None}


def _checkpoint_path(given: Any, speaks: bool) -> Optional[str]:
    if speaks:
        return _values.existing_path("checkpoint", given)
    # Other ranks need not have written anything.
    if not isinstance(given, (str, os.PathLike)):
        raise TypeError(f"checkpoint is {given!r:.80} ({type(given).__name__}), expected a path")
    return None


def should_stop() -> bool:
    """Whether to end now: its rung is reached, the trial is paused or moved, or the job was cancelled.

    Ask after each epoch (after `report` and the checkpoint), or more often; then leave the training loop and
    end with exit status 0. The trial goes on later from its last checkpoint, if it is to.

    With `torch.distributed` initialised all ranks get rank 0's answer, by a broadcast: every rank must call
    it equally often, at the same places. Inside Trainyard SIGTERM becomes an answer with the first call,
    unless the program has a handler of its own.
    """
    session = _session.current()
    return _ranks.agreed(session.stop()) is not None


def infeasible(reason: str) -> NoReturn:
    """Says that this configuration cannot be (such as shapes that do not fit), and ends the program.

    Raises:
        Infeasible: always; a `SystemExit` with status 78.
        TypeError: `reason` is no text.
    """
    _session.current().say({"type": "infeasible", "reason": _values.text("reason", reason)})
    raise Infeasible(reason)


def progress(fraction: float) -> None:
    """A sign of life between reports, and at most a log line; passed on once a second at most.

    Args:
        fraction: how much is done, from 0 to 1.

    Raises:
        TypeError: it is no number.
        ValueError: it is not from 0 to 1.
    """
    _session.current().progress(_values.fraction("fraction", fraction))


@contextlib.contextmanager
def checkpoint_dir(*, epoch: Optional[int] = None, step: Optional[int] = None) -> Iterator[Path]:
    """A new folder for a checkpoint, which Trainyard takes over when the block is left.

    It exists whole or not at all: an exception inside discards it. The upload goes on beside training; at
    most two wait for theirs, a third waits here. Rank 0's folder counts; the folder of any other
    rank is discarded, so that all may run the same lines.

    Args:
        epoch, step: as in `report`; without an epoch that of the newest report.

    Raises:
        TypeError, ValueError: as `report`.
    """
    session = _session.current()
    place = _place(epoch, step)
    speaks = session.speaks()
    base = _base(session, speaks)
    folder = tempfile.mkdtemp(prefix=".unfinished-", dir=base)
    session.open_folders[folder] = False
    try:
        yield Path(folder)
        if speaks and not session.open_folders[folder]:
            _commit(session, folder, base, place)
    finally:
        del session.open_folders[folder]
        shutil.rmtree(folder, ignore_errors=True)


def _base(session: _session.Session, speaks: bool) -> Optional[str]:
    """The folder to make it in; `None`: any temporary one, since it will not be kept."""
    if session.begun.checkpoint_dir is not None:
        return session.begun.checkpoint_dir
    if session.inside or not speaks:
        return None
    os.makedirs(LOCAL_FOLDER, exist_ok=True)
    return os.path.abspath(LOCAL_FOLDER)


def _commit(
    session: _session.Session, folder: str, base: Optional[str], place: Dict[str, int]
) -> None:
    if not os.listdir(folder):
        warn_once("empty", "nothing was written into a checkpoint_dir: it makes no checkpoint")
        return
    if base is None:
        warn_once("no checkpoints", "this worker keeps no checkpoints of programs")
        return
    at = "-".join(f"{name}-{value}" for name, value in place.items()) or "checkpoint"
    if not session.inside:
        _keep_newest(session, folder, os.path.join(base, at), place)
        return
    # Beside the others of the same place until Trainyard has moved it away.
    whole = tempfile.mkdtemp(prefix=f"{at}-", dir=base)
    os.rename(folder, whole)
    message = {"type": "checkpoint", "path": whole, **place}
    if not session.hand_over(message, whole):
        shutil.rmtree(whole, ignore_errors=True)


def _keep_newest(session: _session.Session, folder: str, whole: str, place: Dict[str, int]) -> None:
    """Outside Trainyard: one checkpoint is kept, as Trainyard would keep the latest."""
    shutil.rmtree(whole, ignore_errors=True)
    os.rename(folder, whole)
    if session.newest is not None and session.newest != Path(whole):
        shutil.rmtree(session.newest, ignore_errors=True)
    session.newest = Path(whole)
    session.hand_over({"type": "checkpoint", "path": whole, **place}, whole)


def latest_checkpoint() -> Optional[Path]:
    """The checkpoint that this attempt goes on from, as a folder (or file); `None`: it begins anew.

    What the program had written, after a retry, a pause, a promotion, or within a population a copy of
    another trial's; this process's own copy. Checkpoints that this attempt has handed over are Trainyard's and
    not found here. Outside Trainyard: the newest that this process has made.
    """
    session = _session.current()
    restored = session.info.restored_from
    return restored.path if restored is not None else session.newest


def log_artifact(path: PathLike, name: Optional[str] = None) -> None:
    """Keeps a copy of a file or folder with the trial's results. Rank 0's counts.

    The upload goes on beside training; at most two wait for theirs, a third waits here.
    `coordinatorctl artifact list` and `artifact download` show and fetch it.

    Args:
        path: it must exist, and stay unchanged until the call returns.
        name: what it is to be called; by default the last part of the path. It may have folders in it,
            as `plots/loss.png`. Of several of one name in a trial the newest is kept.

    Raises:
        TypeError: `path` is no path, `name` no text.
        ValueError: nothing is there, or the name is empty.
    """
    session = _session.current()
    whole = _values.existing_path("path", path)
    called = os.path.basename(whole) if name is None else _values.text("name", name)
    if not called:
        raise ValueError("name is empty, expected a name for the artifact")
    if session.speaks():
        session.hand_over({"type": "artifact", "path": whole, "name": called}, whole)
