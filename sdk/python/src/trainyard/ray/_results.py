"""What a job has come to, as Ray's results."""

from __future__ import annotations

import tempfile
from functools import cached_property
from typing import Any, Dict, Iterator, List, Mapping, Optional

from .._ctl import ControlError
from .._nested import unflatten
from ..job import Job
from ._checkpoint import Checkpoint
from ._configs import mode as spec_mode

# `coordinatorctl`: there is no such checkpoint.
NOT_FOUND = 4


class Result:
    """One trial: its configuration, the newest value of each metric, what it failed of."""

    def __init__(self, job: Job, trial: Mapping[str, Any], config: Dict[str, Any]) -> None:
        self._job = job
        self._trial = trial
        self.config = config
        self.metrics: Dict[str, Any] = dict(trial["metrics"])
        self.metrics["training_iteration"] = trial["epoch"]
        error = trial.get("error")
        self.error = RuntimeError(error) if error else None

    def __repr__(self) -> str:
        return f"Result(config={self.config}, metrics={self.metrics}, error={self.error})"

    @cached_property
    def checkpoint(self) -> Optional[Checkpoint]:
        """Its newest checkpoint, downloaded into a temporary folder; `None`: it made none."""
        try:
            found = self._job.download(
                tempfile.mkdtemp(prefix="checkpoint-"), self._trial["trial_id"], latest=True
            )
        except ControlError as error:
            if error.status == NOT_FOUND:
                return None
            raise
        return Checkpoint(found)

    @property
    def metrics_dataframe(self) -> Any:
        """Its learning curve, a `pandas.DataFrame`."""
        return self._job.curves(self._trial["trial_id"], frame=True)


class ResultGrid:
    """All trials of a job."""

    def __init__(self, job: Job, metric: str, mode: str, nested: bool) -> None:
        self.job = job
        self._metric = metric
        self._mode = mode
        self._results = [
            Result(job, t, unflatten(t["params"]) if nested else dict(t["params"]))
            for t in job.trials(frame=False)
        ]

    def __len__(self) -> int:
        return len(self._results)

    def __getitem__(self, index: int) -> Result:
        return self._results[index]

    def __iter__(self) -> Iterator[Result]:
        return iter(self._results)

    def get_best_result(self, metric: Optional[str] = None, mode: Optional[str] = None) -> Result:
        """The trial whose newest value is the best.

        Raises:
            RuntimeError: no trial has a value.
        """
        name = metric or self._metric
        sign = 1 if (spec_mode(mode) if mode else self._mode) == "minimize" else -1
        having = [r for r in self._results if r.metrics.get(name) is not None]
        if not having:
            raise RuntimeError(f"no trial has reported {name!r}")
        return min(having, key=lambda result: sign * result.metrics[name])

    def get_dataframe(self) -> Any:
        """A `pandas.DataFrame` of all trials, as `Job.trials`."""
        return self.job.trials(frame=True)

    @property
    def errors(self) -> List[BaseException]:
        """Why trials have failed."""
        return [result.error for result in self._results if result.error is not None]

    @property
    def num_errors(self) -> int:
        """How many have failed."""
        return len(self.errors)

    @property
    def num_terminated(self) -> int:
        """How many have not."""
        return len(self._results) - self.num_errors
