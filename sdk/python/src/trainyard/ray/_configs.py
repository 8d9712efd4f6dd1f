"""The configuration objects of Ray Train and Tune, as far as a spec has what they say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Mapping, Optional

from .._settings import without_effect

# For "without end".
MAX_RESTARTS = 1000
MODES = {"min": "minimize", "max": "maximize"}


def mode(given: Optional[str]) -> str:
    """A mode as the spec has it.

    Raises:
        ValueError: it is none.
    """
    if given not in MODES:
        raise ValueError(f"mode is {given!r}, expected 'min' or 'max'")
    return MODES[given]


@dataclass
class ScalingConfig:
    """Ranks of a trial, and whether each has a GPU."""

    num_workers: int = 1
    use_gpu: bool = False
    resources_per_worker: Optional[Mapping[str, float]] = None

    def resources(self) -> Dict[str, Any]:
        """The spec's `resources`."""
        wanted = {k: v for k, v in (self.resources_per_worker or {}).items() if v not in (0, 1)}
        without_effect("resources_per_worker", wanted)
        gpu = self.use_gpu or bool((self.resources_per_worker or {}).get("GPU"))
        return {"slots_per_trial": self.num_workers, **({"device": "cuda"} if gpu else {})}


@dataclass
class FailureConfig:
    """How often a trial begins again after an error; -1: without end (here: as often as a spec can say)."""

    max_failures: int = 0


@dataclass
class CheckpointConfig:
    """How many checkpoints are kept, and which metric is the best's."""

    num_to_keep: Optional[int] = None
    checkpoint_score_attribute: Optional[str] = None
    checkpoint_score_order: str = "max"

    def storage(self) -> Dict[str, Any]:
        """Fields of the spec's `checkpoint_storage`."""
        if self.num_to_keep is None:
            return {}
        which = "keep_best" if self.checkpoint_score_attribute else "keep_last"
        return {which: self.num_to_keep}


@dataclass
class RunConfig:
    """Name and place of a job, and what ends its trials."""

    name: Optional[str] = None
    storage_path: Optional[str] = None
    failure_config: Optional[FailureConfig] = None
    checkpoint_config: Optional[CheckpointConfig] = None
    stop: Optional[Mapping[str, float]] = None
    verbose: Optional[int] = None
    callbacks: Any = None

    def fields(self) -> Dict[str, Any]:
        """The spec's."""
        if self.callbacks:
            without_effect("RunConfig", {"callbacks": self.callbacks})
        found: Dict[str, Any] = {}
        failures = (self.failure_config or FailureConfig()).max_failures
        found["max_restarts"] = MAX_RESTARTS if failures < 0 else failures
        storage = (self.checkpoint_config or CheckpointConfig()).storage()
        if self.storage_path is not None:
            storage["url"] = str(self.storage_path)
        if storage:
            found["checkpoint_storage"] = storage
        return found

    def iterations(self) -> Optional[int]:
        """After how many reports a trial ends, by `stop`.

        Raises:
            ValueError: it says something else.
        """
        if not self.stop:
            return None
        if set(self.stop) != {"training_iteration"}:
            raise ValueError(
                f"stop is {dict(self.stop)!r}, expected training_iteration alone: end the loop by a metric, or "
                "give the job a goal (trainyard.submit)"
            )
        return int(self.stop["training_iteration"])
