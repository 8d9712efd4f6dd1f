"""A cluster of real processes for tests: the coordinator, workers and the command line, which lie beside each other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

from support import CONTROL, SOURCE

# Importing PyTorch takes tens of seconds on a machine that others load.
PATIENCE_S = 420.0
LOOK_AGAIN_S = 0.1
# How soon a worker that was killed counts as lost.
LEASE_MS = 3000
PROGRAMS = Path(__file__).resolve().parent / "programs"


def beside(name: str) -> Optional[str]:
    """A program that was built together with `coordinatorctl`."""
    path = Path(CONTROL).resolve().parent / name if CONTROL is not None else None
    return str(path) if path is not None and path.exists() else None


def is_there() -> bool:
    return beside("coordinator") is not None and beside("worker") is not None


def wait_for(what: str, condition: Callable[[], Any]) -> Any:
    """Looks until `condition` gives something true."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(LOOK_AGAIN_S)
    raise AssertionError(f"waited {PATIENCE_S} s in vain for {what}")


def allowing() -> List[str]:
    """What a worker has to be told so that it runs people's programs."""
    text = subprocess.run([str(beside("worker")), "--help"], capture_output=True, text=True).stdout
    return ["--programs", "allow"] if "--programs" in text else []


class Cluster:
    """A coordinator and its folder; workers are started as needed. All of it ends with the block."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="ty")
        self.folder = Path(self._folder.name)
        self._processes: List["subprocess.Popen[bytes]"] = []
        path = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
        self.environment = {**os.environ, "PATH": os.pathsep.join(path)}

    def __enter__(self) -> "Cluster":
        port = self.folder / "port"
        data = ["--data-dir", str(self.folder / "data"), "--port-file", str(port)]
        lease = [
            "--heartbeat-ms",
            str(LEASE_MS // 5),
            "--worker-lease-ms",
            str(LEASE_MS),
        ]
        try:
            self._start("coordinator", "--listen", "127.0.0.1:0", *data, *lease)
            address = wait_for(
                "the coordinator", lambda: port.exists() and port.read_text().strip()
            )
        except BaseException:
            self.__exit__()
            raise
        self.environment["TRAINYARD_COORDINATOR"] = f"http://{address}"
        return self

    def __exit__(self, *_: Any) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        self._folder.cleanup()

    def _start(self, name: str, *arguments: str) -> "subprocess.Popen[bytes]":
        with open(self.folder / f"{name}-{len(self._processes)}.log", "w") as log:
            process = subprocess.Popen(
                [str(beside(name)), *arguments],
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._processes.append(process)
        return process

    def worker(self, slots: int) -> "subprocess.Popen[bytes]":
        return self._start("worker", "--slots", str(slots), "--threads-per-slot", "1", *allowing())

    def ctl(self, *arguments: str) -> Any:
        """What the command line answers; it must succeed."""
        done = subprocess.run(
            [str(CONTROL), *arguments, "--output", "json"],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return json.loads(done.stdout) if done.stdout.strip() else None

    def submit(self, name: str, spec: str) -> str:
        """A job whose program is `programs/NAME.py` in the environment of `spec`'s other lines."""
        path = self.folder / f"{name}.yaml"
        path.write_text(spec)
        return str(self.ctl("submit", str(path))["job_id"])

    def trials(self, job: str) -> List[Dict[str, Any]]:
        return list(self.ctl("trial", "list", job)["trials"])

    def completed(self, job: str) -> Dict[str, Any]:
        """What is known of the job once it has ended well."""

        def ended() -> Any:
            known = self.ctl("describe", job)["job"]
            if known["state"] in ("failed", "cancelled"):
                raise AssertionError(f"{known}\n{self.logs(job)}")
            return known if known["state"] == "completed" else None

        return dict(wait_for(f"{job} to complete", ended))

    def logs(self, job: str) -> str:
        done = subprocess.run(
            [str(CONTROL), "logs", job],
            env=self.environment,
            capture_output=True,
            text=True,
        )
        return done.stdout[-8000:]

    def curves(self, job: str) -> Dict[int, Dict[int, Dict[str, float]]]:
        """Of each trial what its epochs ended with."""
        trials = [trial["trial_id"] for trial in self.trials(job)]
        described = {trial: self.ctl("trial", "describe", job, str(trial)) for trial in trials}
        return {
            trial: {point["epoch"]: point["metrics"] for point in known["points"]}
            for trial, known in described.items()
        }


class Traced:
    """A line of a program's trace."""

    def __init__(self, line: str) -> None:
        trial, attempt, rank, process, parent, what = line.split(" ", 5)
        self.trial, self.attempt, self.rank = int(trial), int(attempt), int(rank)
        self.process, self.parent, self.what = int(process), int(parent), what


class Programs:
    """The folder in which programs leave traces and wait for files, and their environment in a spec."""

    def __init__(self, folder: Path, **more: str) -> None:
        self.folder = Path(tempfile.mkdtemp(dir=folder))
        self._more = more

    def entrypoint(self, name: str) -> str:
        environment = {
            "PYTHONPATH": str(SOURCE),
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "FOLDER": str(self.folder),
            **self._more,
        }
        command = json.dumps([sys.executable, str(PROGRAMS / f"{name}.py")])
        return f"entrypoint: {{command: {command}, environment: {json.dumps(environment)}}}\n"

    def open(self, gate: int) -> None:
        (self.folder / f"go-{gate}").touch()

    def trace(self) -> List[Traced]:
        """Every line that was written whole, of each process in its order."""
        lines: List[str] = []
        for path in sorted(self.folder.glob("trace-*")):
            lines += path.read_text().splitlines(keepends=True)
        return [Traced(line.rstrip("\n")) for line in lines if line.endswith("\n")]

    def seen(self, what: str, **of: int) -> List[Traced]:
        return [
            traced
            for traced in self.trace()
            if traced.what == what
            and all(getattr(traced, name) == value for name, value in of.items())
        ]


def kill(process: int) -> None:
    os.kill(process, signal.SIGKILL)
