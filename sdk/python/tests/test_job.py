"""Jobs on a real coordinator with a real worker, beside the `coordinatorctl` that is found."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import unittest
from pathlib import Path
from typing import Any, List

from fake_worker import wait_for
from support import SOURCE, Case, control

import trainyard as ty

PROGRAM = """
for epoch in 1 2 3; do
    echo "{\\"epoch\\": $epoch, \\"metrics\\": {\\"value\\": $(( X * X - epoch ))}}"
done
echo trial $TRAINYARD_TRIAL_ID is done
"""
SPEC = {
    "name": "python",
    "hyperparameters": {"x": {"type": "int", "minval": -2, "maxval": 2}},
    "entrypoint": {"command": ["sh", "-c", PROGRAM], "environment": {"X": "${x}"}},
    "objectives": [{"metric": "value", "mode": "minimize"}],
    "searcher": {"name": "grid"},
}


def beside(name: str) -> str:
    return str(Path(control() or "").resolve().parent / name)


def is_there() -> bool:
    return control() is not None and all(
        os.path.exists(beside(n)) for n in ("coordinator", "worker")
    )


@unittest.skipUnless(
    is_there(), "coordinatorctl, coordinator and worker are not found (TRAINYARD_CTL, PATH)"
)
class Jobs(Case):
    def setUp(self) -> None:
        super().setUp()
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
        self.address = f"127.0.0.1:{port}"
        self.begin("coordinator", "--listen", self.address, "--data-dir", "data")
        wait_for("the coordinator", self.listens)

    def listens(self) -> bool:
        host, port = self.address.split(":")
        with socket.socket() as probe:
            return probe.connect_ex((host, int(port))) == 0

    def begin(self, name: str, *arguments: str) -> None:
        log = open(self.folder / f"{name}.log", "w")
        process = subprocess.Popen([beside(name), *arguments], stdout=log, stderr=log)
        log.close()
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)

    def begin_worker(self) -> None:
        help_text = subprocess.run(
            [beside("worker"), "--help"], capture_output=True, text=True
        ).stdout
        programs = ["--programs", "allow"] if "--programs" in help_text else []
        self.begin("worker", "--coordinator", f"http://{self.address}", "--slots", "2", *programs)

    def spec(self, **more: Any) -> Any:
        return {**SPEC, "checkpoint_storage": {"url": str(self.folder / "store")}, **more}

    def test_from_submit_to_curves(self) -> None:
        job = ty.submit(self.spec(), self.address)
        with self.assertRaisesRegex(TimeoutError, f"{job.job_id} has not ended"):
            job.wait(timeout=1)
        self.begin_worker()
        self.assertEqual(job.wait()["state"], "completed")
        self.assertEqual(job.status()["trials_completed"], 5)
        best = job.best()
        self.assertEqual((best["value"], best["trial"]["params"]), (-3.0, {"x": 0}))
        trials: List[Any] = job.trials(frame=False)
        self.assertEqual([t["params"]["x"] for t in trials], [-2, -1, 0, 1, 2])
        curve = job.curves(trial=0, frame=False)
        self.assertEqual([(p["epoch"], p["value"]) for p in curve], [(1, 3.0), (2, 2.0), (3, 1.0)])
        self.assertEqual(len(job.curves(frame=False)), 15)
        texts = [line["text"] for line in job.logs(trial=3)]
        self.assertIn("trial 3 is done", texts)
        self.assertEqual(job.cancel(), "completed")
        if importlib.util.find_spec("pandas"):
            frame = job.trials()
            self.assertEqual(list(frame["params.x"]), [-2, -1, 0, 1, 2])
            self.assertEqual(job.curves().groupby("trial_id").size().tolist(), [3] * 5)

    def test_a_job_that_fails_or_is_cancelled(self) -> None:
        path = self.folder / "job.json"
        path.write_text(json.dumps(self.spec()))
        job = ty.submit(path, self.address)
        self.assertEqual(repr(job), f"Job({job.job_id!r})")
        job.cancel()
        with self.assertRaisesRegex(ty.JobFailed, "cancelled"):
            job.wait()
        self.assertEqual(job.wait(check=False)["state"], "cancelled")

    def test_what_is_wrong_is_told(self) -> None:
        with self.assertRaisesRegex(ValueError, "hyperparameters.x"):
            ty.submit(self.spec(hyperparameters={"x": {"type": "int"}}), self.address)
        with self.assertRaisesRegex(ValueError, "spec_or_path is 'none.yaml', expected"):
            ty.submit("none.yaml", self.address)
        with self.assertRaisesRegex(TypeError, "spec_or_path is 3"):
            ty.submit(3, self.address)  # type: ignore[arg-type]
        with self.assertRaises(ty.ControlError) as caught:
            ty.Job("none", self.address).best()
        self.assertEqual(caught.exception.status, 4)
        with self.assertRaises(ty.ControlError) as caught:
            list(ty.Job("none", self.address).logs())
        self.assertEqual(caught.exception.status, 4)


@unittest.skipUnless(control(), "coordinatorctl is not found (TRAINYARD_CTL, PATH)")
class Here(Case):
    SLOW = 'while :; do sleep 0.1; echo \'{"metrics": {"value": 1}}\'; done'

    def test_artifacts_of_a_trial(self) -> None:
        program = (
            "import pathlib, trainyard as ty; pathlib.Path('plot.txt').write_text('line');"
            "ty.report({'value': 1}); ty.log_artifact('plot.txt', 'plots/one.txt')"
        )
        environment = {"PYTHONPATH": str(SOURCE)}
        command = {"command": [sys.executable, "-c", program], "environment": environment}
        spec = {**SPEC, "entrypoint": command, "hyperparameters": {}, "searcher": {"max_trials": 1}}
        job = ty.run(spec)
        (found,) = job.artifacts()
        self.assertEqual(
            (found["trial_id"], found["name"], found["kind"], found["bytes"]),
            (0, "plots/one.txt", "file", 4),
        )
        self.assertEqual(job.artifacts(0), [found])
        path = job.download_artifact(0, "plots/one.txt", self.folder / "here")
        self.assertEqual(path.read_text(), "line")
        with self.assertRaises(ty.ControlError) as caught:
            job.download_artifact(0, "none")
        self.assertEqual(caught.exception.status, 4)

    def test_what_was_interrupted_is_resumed_or_given_up(self) -> None:
        slow = {**SPEC, "entrypoint": {"command": ["sh", "-c", self.SLOW]}}
        (self.folder / "slow.json").write_text(json.dumps(slow))
        done = self.start(
            """
            import trainyard as ty
            ty.run("slow.json")
            """,
            {},
            start_new_session=True,
        )
        assert done.stderr is not None
        for line in done.stderr:
            if " step " in line:
                break
        os.killpg(done.pid, signal.SIGINT)
        self.assertIn("KeyboardInterrupt", done.communicate()[1])
        quick = {
            **SPEC,
            "entrypoint": {"command": ["sh", "-c", PROGRAM], "environment": {"X": "${x}"}},
        }
        with self.assertRaisesRegex(ValueError, 'is not finished.*here: unfinished="resume" or'):
            ty.run(quick)
        with self.assertRaisesRegex(ValueError, "unfinished is 'x', expected one of"):
            ty.run(quick, unfinished="x")
        job = ty.run(quick, unfinished="fresh", slots=2)
        self.assertEqual((job.status()["trials_completed"], job.best()["value"]), (5, -3.0))
        self.assertEqual(len(job.trials(frame=False)), 5)


if __name__ == "__main__":
    unittest.main()
