"""`examples/python`: each script is its plain one but for three lines, and reports what its job asks for."""

from __future__ import annotations

import difflib
import importlib.util
import os
import re
import subprocess
import sys
import unittest
from typing import Any, Dict

from fake_worker import PATIENCE_S
from support import SOURCE, Case, control

EXAMPLES = SOURCE.parent.parent.parent / "examples" / "python"
NEEDS = {
    "pytorch": "torch",
    "pytorch_ddp": "torch",
    "scikit_learn": "sklearn",
    "keras_rings": "keras",
    "lightning_line": "lightning",
    "transformers_letters": "accelerate",
    "optuna_study": "sklearn",
    "determined_core": "json",
}
# Those that are no program of a job's spec, but begin a search themselves.
SEARCHES = ("optuna_study", "ray_tune", "function")
CHANGED_LINES = 3


def metric(name: str) -> str:
    found = re.search(r"metric: (\w+)", (EXAMPLES / f"{name}.yaml").read_text())
    assert found is not None
    return found.group(1)


class Examples(Case):
    def run_example(self, name: str, environment: Dict[str, str]) -> Any:
        everything = {**os.environ, "PYTHONPATH": str(SOURCE), **environment}
        everything.update(OMP_NUM_THREADS="1", KERAS_BACKEND="torch", CUDA_VISIBLE_DEVICES="")
        return subprocess.run(
            [sys.executable, str(EXAMPLES / f"{name}.py")],
            env=everything,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )

    def test_at_most_three_lines_are_others(self) -> None:
        plain = sorted((EXAMPLES / "plain").glob("*.py"))
        self.assertGreaterEqual(len(plain), 5)
        for path in plain:
            ours = (EXAMPLES / path.name).read_text().splitlines()
            theirs = path.read_text().splitlines()
            changed = [line for line in difflib.ndiff(theirs, ours) if line.startswith("+ ")]
            self.assertIn(len(changed), range(1, CHANGED_LINES + 1), path.name)

    def test_every_example_is_known_here(self) -> None:
        self.assertEqual({path.stem for path in EXAMPLES.glob("*.py")}, {*NEEDS, *SEARCHES})

    @unittest.skipUnless(control(), "coordinatorctl is not found (TRAINYARD_CTL, PATH)")
    def test_every_job_is_valid(self) -> None:
        jobs = sorted(EXAMPLES.glob("*.yaml"))
        self.assertEqual({path.stem for path in jobs}, set(NEEDS) - set(SEARCHES))
        for path in jobs:
            done = subprocess.run(
                [control() or "", "validate", path], capture_output=True, text=True
            )
            self.assertEqual(done.returncode, 0, done.stderr)

    @unittest.skipUnless(control(), "coordinatorctl is not found (TRAINYARD_CTL, PATH)")
    @unittest.skipUnless(importlib.util.find_spec("sklearn"), "scikit-learn is not installed")
    def test_an_optuna_script_moves_by_its_import(self) -> None:
        done = self.run_example("optuna_study", {})
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertGreater(float(done.stdout.split()[0]), 0.94)

    @unittest.skipUnless(control(), "coordinatorctl is not found (TRAINYARD_CTL, PATH)")
    def test_functions_search_on_this_machine(self) -> None:
        for name in ("ray_tune", "function"):
            done = self.run_example(name, {})
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertLess(float(done.stdout.split()[0]), 1, done.stdout)


def _add(name: str, package: str) -> None:
    @unittest.skipUnless(importlib.util.find_spec(package), f"{package} is not installed")
    def test(self: Examples) -> None:
        worker = self.worker(until_epoch=3, params={"lr": 0.01, "width": 8, "rate": 0.1})
        done = self.run_example(name, worker.environment())
        self.assertEqual(done.returncode, 0, done.stderr[-3000:])
        self.assertTrue(worker.reports)
        for report in worker.reports[-1:]:
            self.assertIn(metric(name), report["metrics"])
        self.assertLessEqual(len({report.get("epoch") for report in worker.reports}), 4)

    setattr(Examples, f"test_{name}_reports", test)


for _name, _package in NEEDS.items():
    if _name not in SEARCHES:
        _add(_name, _package)


if __name__ == "__main__":
    unittest.main()
