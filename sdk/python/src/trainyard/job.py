"""Jobs: submit one to a cluster or run it here, wait for it, look at what came of it."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import os
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple, Union

from . import _ctl, _values

# What `wait` and the others end with, see docs/cli.md.
DONE, FAILED, TIMED_OUT = 0, 1, 124
UNFINISHED = ("resume", "fresh")
# Of a downloaded checkpoint the part that a program has written.
CHECKPOINT = "checkpoint"


class JobFailed(RuntimeError):
    """A job has ended as failed or cancelled; `job` is its last state."""

    def __init__(self, job: Dict[str, Any]) -> None:
        why = job.get("error") or job.get("note") or "no reason given"
        super().__init__(f"job {job['job_id']} has {job['state']}: {why}")
        self.job = job


def submit(
    spec_or_path: Union[Mapping[str, Any], str, "os.PathLike[str]"], address: Optional[str] = None
) -> "Job":
    """Hands a job to a coordinator.

    Args:
        spec_or_path: the spec as a mapping (relative paths mean the working directory), or the path of
            its YAML or JSON file (they mean the file's folder).
        address: of the coordinator, `HOST:PORT`, several separated by commas; by default
            `TRAINYARD_COORDINATOR`, else this machine's port 7070.

    Raises:
        TypeError: it is neither.
        ValueError: the file does not exist, or the spec is wrong: every error, each with its place.
        ControlError: the coordinator cannot be reached, or refuses.
        FileNotFoundError: `coordinatorctl` is not found.
    """
    source, given = _source(spec_or_path)
    with _spec_errors():
        answer = _ctl.call(["submit", source], _ctl.at(address), given=given)
    return Job(str(answer["job_id"]), address)


def run(
    spec_or_path: Union[Mapping[str, Any], str, "os.PathLike[str]"],
    *,
    slots: Optional[int] = None,
    data_dir: "Union[str, os.PathLike[str]]" = "trainyard-data",
    unfinished: Optional[str] = None,
    check: bool = True,
) -> "Job":
    """Runs a job on this machine to its end, without a coordinator; what happens is told on standard error.

    Args:
        spec_or_path: as in `submit`.
        slots: trials that train at once; by default as many as there are CPU threads.
        data_dir: the folder in which its records and checkpoints are kept.
        unfinished: what becomes of an earlier job of `data_dir` that was interrupted: "resume" goes on with it
            if it has the same spec, "fresh" cancels it; by default it is an error.
        check: whether a job that did not complete raises.

    Raises:
        TypeError, ValueError, FileNotFoundError: as in `submit`; or an earlier job has not ended.
        JobFailed: it failed or was cancelled.
    """
    source, given = _source(spec_or_path)
    many = [] if slots is None else ["--slots", str(_values.count("slots", slots))]
    if unfinished not in (None, *UNFINISHED):
        raise ValueError(f"unfinished is {unfinished!r}, expected one of {UNFINISHED} or None")
    many += [] if unfinished is None else [f"--{unfinished}"]
    folder = os.path.abspath(os.fspath(data_dir))
    with _spec_errors():
        answer = _ctl.told(
            ["run", *many, source],
            _ctl.at(data_dir=folder),
            given=given or "",
            accepted=(DONE, FAILED),
        )
    ended: Dict[str, Any] = answer["job"]
    if check and ended["state"] != "completed":
        raise JobFailed(ended)
    return Job(str(ended["job_id"]), data_dir=folder)


def _source(spec_or_path: Any) -> Tuple[str, Optional[str]]:
    """The argument that names a spec, and what standard input is to be."""
    if isinstance(spec_or_path, Mapping):
        return "-", json.dumps(spec_or_path)
    return _values.existing_path("spec_or_path", spec_or_path), None


@contextlib.contextmanager
def _spec_errors() -> Iterator[None]:
    try:
        yield
    except _ctl.ControlError as error:
        if error.status == 2:
            said = str(error)
            # Told in the words of the command line.
            here = '; here: unfinished="resume" or "fresh"' if "--resume" in said else ""
            raise ValueError(said + here) from None
        raise


class Job:
    """A job by its id. Shapes of what is returned: docs/cli.md, "JSON".

    Args:
        job_id: as `submit` has given it.
        address: of the coordinator that knows it, as in `submit`.
        data_dir: of one that `run` has run, its folder.
    """

    def __init__(
        self,
        job_id: str,
        address: Optional[str] = None,
        *,
        data_dir: "Union[None, str, os.PathLike[str]]" = None,
    ) -> None:
        self.job_id = job_id
        self._where = _ctl.at(address, None if data_dir is None else os.fspath(data_dir))

    def __repr__(self) -> str:
        return f"Job({self.job_id!r})"

    def _call(self, *arguments: str) -> Dict[str, Any]:
        return _ctl.call(arguments, self._where)

    def status(self) -> Dict[str, Any]:
        """The job as it is now: `state`, `best_value`, numbers of trials and so on."""
        found: Dict[str, Any] = self._call("describe", self.job_id)["job"]
        return found

    def wait(self, timeout: Optional[float] = None, *, check: bool = True) -> Dict[str, Any]:
        """Waits for the end, and gives the job's last state.

        Args:
            timeout: seconds; by default as long as it takes.
            check: whether a job that did not complete raises.

        Raises:
            JobFailed: it failed or was cancelled.
            TimeoutError: it has not ended within `timeout`.
        """
        limit = [] if timeout is None else ["--timeout", str(max(1, round(timeout)))]
        try:
            answer = _ctl.call(["wait", self.job_id, *limit], self._where, accepted=(DONE, FAILED))
        except _ctl.ControlError as error:
            if error.status == TIMED_OUT:
                raise TimeoutError(f"job {self.job_id} has not ended within {timeout} s") from None
            raise
        job: Dict[str, Any] = answer["job"]
        if check and job["state"] != "completed":
            raise JobFailed(job)
        return job

    def best(self) -> Dict[str, Any]:
        """The best trial: `value`, `trial` (with `params` and `metrics`), `checkpoint`, `test_metrics`."""
        return self._call("best", self.job_id)

    def trials(self, frame: Optional[bool] = None) -> Any:
        """All trials: a list of them, or a table with a column for each hyperparameter and metric.

        Args:
            frame: whether to make a `pandas.DataFrame` of them, with columns such as `params.lr` and
                `metrics.loss`; by default where pandas is installed.
        """
        found = self._trials()
        if not _wants_frame(frame):
            return found
        rows = []
        for trial in found:
            row = {
                name: trial[name] for name in ("trial_id", "state", "epoch", "step", "best_value")
            }
            for group in ("params", "metrics"):
                row.update({f"{group}.{name}": value for name, value in trial[group].items()})
            rows.append({**row, "error": trial.get("error")})
        return _frame(rows)

    def _trials(self) -> List[Dict[str, Any]]:
        found: List[Dict[str, Any]] = self._call("trial", "list", self.job_id)["trials"]
        return found

    def curves(self, trial: Optional[int] = None, frame: Optional[bool] = None) -> Any:
        """Learning curves: for each report a row of `trial_id`, `epoch`, `step`, `time_ms` and its metrics.

        Args:
            trial: of one trial only.
            frame: as in `trials`.
        """
        numbers = [trial] if trial is not None else [t["trial_id"] for t in self._trials()]
        rows = []
        for number in numbers:
            described = self._call("trial", "describe", self.job_id, str(number))
            for point in described["points"]:
                at = {name: point[name] for name in ("epoch", "step", "time_ms")}
                rows.append({"trial_id": number, **at, **point["metrics"]})
        return _frame(rows) if _wants_frame(frame) else rows

    def logs(
        self, trial: Optional[int] = None, *, follow: bool = False
    ) -> Iterator[Dict[str, Any]]:
        """Log lines as they come: `trial_id`, `rank`, `time_ms`, `level`, `text`.

        Args:
            trial: of one trial only.
            follow: whether to go on until the job has ended.
        """
        one = [] if trial is None else ["--trial", str(trial)]
        on = ["--follow"] if follow else []
        return _ctl.lines(["logs", *on, *one, self.job_id], self._where)

    def download(
        self,
        to: "Union[None, str, os.PathLike[str]]" = None,
        trial: Optional[int] = None,
        *,
        latest: bool = False,
    ) -> Path:
        """Writes a checkpoint's files into a folder: the best one of the best trial.

        Args:
            to: the folder; by default one of the job's and the trial's name in the working directory.
            trial: of that trial.
            latest: the newest one, and not the best.

        Returns:
            Where what the program had written lies.

        Raises:
            ControlError: there is none (status 4), or the store cannot be reached.
        """
        options = [] if to is None else ["--to", os.fspath(to)]
        options += [] if trial is None else ["--trial", str(trial)]
        options += ["--latest"] if latest else []
        folder = Path(self._call("checkpoint", "download", *options, self.job_id)["directory"])
        return folder / CHECKPOINT if (folder / CHECKPOINT).exists() else folder

    def artifacts(self, trial: Optional[int] = None) -> List[Dict[str, Any]]:
        """What the programs have kept by `log_artifact`: `trial_id`, `name`, `kind` ("file" or "folder"), `bytes`, `files`.

        Args:
            trial: of one trial only.
        """
        one = [] if trial is None else [str(trial)]
        found: List[Dict[str, Any]] = self._call("artifact", "list", self.job_id, *one)["artifacts"]
        return found

    def download_artifact(
        self, trial: int, name: str, to: "Union[None, str, os.PathLike[str]]" = None
    ) -> Path:
        """Writes an artifact as a file or folder.

        Args:
            to: its path; by default the last part of its name, in the working directory.

        Raises:
            ControlError: there is none (status 4), or something is at that path.
        """
        options = [] if to is None else ["--to", os.fspath(to)]
        answer = self._call("artifact", "download", *options, self.job_id, str(trial), name)
        return Path(answer["path"])

    def cancel(self) -> str:
        """Stops running trials and begins no new ones; the state. No error for a job that has ended."""
        return str(self._call("cancel", self.job_id)["state"])


def _wants_frame(frame: Optional[bool]) -> bool:
    return importlib.util.find_spec("pandas") is not None if frame is None else frame


def _frame(rows: List[Dict[str, Any]]) -> Any:
    return importlib.import_module("pandas").DataFrame(rows)
