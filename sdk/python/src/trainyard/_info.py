"""Who this process is: a trial's attempt, as its environment or the channel's welcome says."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Tuple


@dataclass(frozen=True)
class Restored:
    """A checkpoint that an attempt goes on from.

    Attributes:
        path: folder (or file) with what the program had written; this process's own copy.
        epoch: complete epochs that it holds; `None` where Trainyard does not know.
        step: its step, likewise.
    """

    path: Path
    epoch: Optional[int] = None
    step: Optional[int] = None


@dataclass(frozen=True)
class Info:
    """What Trainyard has told this process about itself.

    Attributes:
        job: id of the job; `None` outside Trainyard.
        trial: number of the trial within its job, from 0.
        attempt: which try of the trial this is, from 0.
        rank: place of this process among those that train the trial, from 0.
        world_size: their number.
        seed: the trial's seed, 64 bits, not negative.
        seed32: its low 31 bits, as NumPy and PyTorch take them.
        until_epoch: complete epochs until which this attempt is to train, where a scheduler has rungs.
        restored_from: the checkpoint to go on from, if there is one.
        stop_grace_s: seconds from the news of a stop until the process is ended by force.
    """

    job: Optional[str] = None
    trial: int = 0
    attempt: int = 0
    rank: int = 0
    world_size: int = 1
    seed: int = 0
    seed32: int = 0
    until_epoch: Optional[int] = None
    restored_from: Optional[Restored] = None
    stop_grace_s: float = 30.0


# The low 31 bits: what every framework's 32-bit signed or unsigned seed holds.
SEED32 = 0x7FFF_FFFF


@dataclass(frozen=True)
class Begun:
    """An attempt as it begins: who it is, its configuration, and where its checkpoints go.

    Attributes:
        hyperparameters: the names of the job's, active in this trial or not; `None` where they are not known.
    """

    info: Info
    params: Dict[str, Any]
    checkpoint_dir: Optional[str] = None
    hyperparameters: Optional[Tuple[str, ...]] = None


def of_welcome(welcome: Mapping[str, Any]) -> Begun:
    """The channel's welcome.

    Raises:
        KeyError, TypeError, ValueError: it is not one of this protocol.
    """
    restore = welcome.get("restore")
    seed = int(welcome["seed"])
    info = Info(
        job=str(welcome["job_id"]),
        trial=int(welcome["trial_id"]),
        attempt=int(welcome["attempt"]),
        rank=int(welcome["rank"]),
        world_size=int(welcome["world_size"]),
        seed=seed,
        seed32=seed & SEED32,
        until_epoch=_optional_int(welcome.get("until_epoch")),
        restored_from=None
        if restore is None
        else Restored(
            Path(restore["path"]),
            _optional_int(restore.get("epoch")),
            _optional_int(restore.get("step")),
        ),
        stop_grace_s=float(welcome.get("stop_grace_s", 30.0)),
    )
    names = welcome.get("hyperparameters")
    return Begun(
        info,
        dict(welcome["params"]),
        welcome.get("checkpoint_dir"),
        None if names is None else tuple(str(name) for name in names),
    )


def of_environment(environment: Optional[Mapping[str, str]] = None) -> Begun:
    """The `TRAINYARD_*` variables, or the defaults outside Trainyard.

    Raises:
        ValueError: a variable is not what Trainyard would have set.
    """
    given = os.environ if environment is None else environment
    seed = _number(given, "TRAINYARD_SEED", 0)
    restore = given.get("TRAINYARD_RESTORE_DIR")
    info = Info(
        job=given.get("TRAINYARD_JOB_ID"),
        trial=_number(given, "TRAINYARD_TRIAL_ID", 0),
        attempt=_number(given, "TRAINYARD_ATTEMPT", 0),
        rank=_number(given, "TRAINYARD_RANK", 0),
        world_size=_number(given, "TRAINYARD_WORLD_SIZE", 1),
        seed=seed,
        seed32=_number(given, "TRAINYARD_SEED32", seed & SEED32),
        until_epoch=_number(given, "TRAINYARD_UNTIL_EPOCH", None),
        restored_from=None
        if not restore
        else Restored(
            Path(restore),
            _number(given, "TRAINYARD_RESTORE_EPOCH", None),
            _number(given, "TRAINYARD_RESTORE_STEP", None),
        ),
    )
    return Begun(info, _params(given), given.get("TRAINYARD_CHECKPOINT_DIR"))


def _params(given: Mapping[str, str]) -> Dict[str, Any]:
    text = given.get("TRAINYARD_PARAMS")
    if not text:
        return {}
    try:
        params = json.loads(text)
    except ValueError:
        params = None
    if not isinstance(params, dict):
        raise ValueError(f"TRAINYARD_PARAMS is {text[:80]!r}, expected a JSON object")
    return params


def _number(given: Mapping[str, str], name: str, default: Any) -> Any:
    text = given.get(name)
    if not text:
        return default
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{name} is {text!r}, expected a whole number") from None


def _optional_int(given: Any) -> Optional[int]:
    return None if given is None else int(given)
