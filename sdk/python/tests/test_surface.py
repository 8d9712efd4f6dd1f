"""The public surface: documented whole, and typed for whoever checks a program of their own."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
import unittest
from pathlib import Path
from typing import Dict, Iterator, List, Set, Tuple

from fake_worker import PATIENCE_S
from support import SOURCE, Case

import trainyard as ty

PACKAGE = SOURCE / "trainyard"
# A program as people write it: `mypy --strict` knows the types of all that it calls.
PROGRAM = """
from typing import Any, Dict, List

import trainyard as ty
import trainyard.optuna as optuna
from trainyard.ray import train, tune


@ty.remote
def trained(config: Dict[str, Any]) -> float:
    first = 0
    kept = ty.latest_checkpoint()
    if kept is not None:
        first = int((kept / "epoch").read_text())
    for epoch in range(first, ty.info().until_epoch or 10):
        ty.report({"loss": config["lr"]}, epoch=epoch)
        with ty.checkpoint_dir(epoch=epoch) as folder:
            (folder / "epoch").write_text(str(epoch))
        if ty.should_stop():
            break
    return 0.5


@ty.remote(environment={"A": "b"})
def other(config: Dict[str, Any]) -> Dict[str, float]:
    return {"loss": 1.0}


def objective(trial: ty.Trial) -> float:
    x: float = trial.suggest_float("x", 0, 1)
    n: int = trial.suggest_int("n", 1, 3)
    trial.report(x, step=0)
    if x > trial.study.best_value:
        trial.study.stop()
    if trial.should_prune():
        raise optuna.TrialPruned
    return x * n


def iterated(config: Dict[str, Any]) -> None:
    train.report({"loss": 1.0}, checkpoint=train.Checkpoint.from_directory("."))


if __name__ == "__main__":
    value: float = trained({"lr": 0.1})
    metrics: Dict[str, float] = other({})
    job: ty.Job = trained.search({"lr": ty.space.uniform(0, 1)}, objectives="loss", n_trials=3)
    job.wait(timeout=10.0)
    study = ty.create_study(direction="minimize", pruner=optuna.pruners.MedianPruner())
    study.optimize(objective, n_trials=3)
    best: float = study.best_value
    front: List[ty.FrozenTrial] = study.best_trials
    config = tune.TuneConfig(metric="loss", mode="min", num_samples=4)
    results = tune.Tuner(iterated, param_space={"a": tune.choice([1])}, tune_config=config).fit()
    print(value, metrics, best, len(front), results.get_best_result().config)
"""
CACHE = ("--cache-dir", "cache")
WRONG = """
import trainyard as ty
ty.report(3)
ty.checkpoint_dir(epoch="x")
ty.info().epoch
"""


def undocumented(path: Path) -> Iterator[Tuple[str, int]]:
    tree = ast.parse(path.read_text())
    if ast.get_docstring(tree) is None:
        yield path.name, 1
    for node in ast.walk(tree):
        if isinstance(node, (ast.ClassDef, ast.Module)):
            for child in node.body:
                if not isinstance(child, (ast.FunctionDef, ast.ClassDef)):
                    continue
                # Those of `remote` that are there for the types alone; frameworks' own hooks.
                plain = not any(ast.unparse(d) == "overload" for d in child.decorator_list)
                hook = isinstance(node, ast.ClassDef) and child.name.startswith("on_")
                named = not child.name.startswith("_") and plain and not hook
                if named and ast.get_docstring(child) is None:
                    yield f"{path.name}: {child.name}", child.lineno


def imported(path: Path) -> Iterator[str]:
    """The package's modules that one of it imports, wherever in it and for whatever it needs them."""
    here = path.relative_to(SOURCE).with_suffix("").parts
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.ImportFrom) or node.level == 0:
            continue
        # Of `__init__` the folder is its own.
        base = [*here[: len(here) - node.level], *(node.module or "").split(".")]
        base = [part for part in base if part]
        for name in node.names:
            for parts in ([*base, name.name], base):
                if SOURCE.joinpath(*parts).with_suffix(".py").exists():
                    yield ".".join(parts)
                    break


def circle(edges: Dict[str, Set[str]]) -> List[str]:
    """Modules that import each other in a circle, if some do."""
    done: Set[str] = set()

    def found(module: str, above: List[str]) -> List[str]:
        if module in above:
            return [*above[above.index(module) :], module]
        if module in done:
            return []
        for other in sorted(edges.get(module, ())):
            way = found(other, [*above, module])
            if way:
                return way
        done.add(module)
        return []

    return next(filter(None, (found(module, []) for module in sorted(edges))), [])


class Surface(Case):
    def test_modules_know_each_other_one_way(self) -> None:
        edges: Dict[str, Set[str]] = {}
        for path in PACKAGE.rglob("*.py"):
            if path.stem != "__init__":
                module = ".".join(path.relative_to(SOURCE).with_suffix("").parts)
                edges[module] = set(imported(path))
        self.assertIn("trainyard.trial", edges["trainyard.study"])
        self.assertEqual(circle(edges), [])
        edges["trainyard._space"].add("trainyard.study")
        self.assertIn("trainyard._space", circle(edges))

    def test_what_is_public_is_documented(self) -> None:
        public = [
            p for p in PACKAGE.rglob("*.py") if not p.name.startswith("_") or p.stem == "__init__"
        ]
        # Modules of their own that hold what public ones give.
        public += [
            PACKAGE / f"{name}.py" for name in ("_run", "_info", "_function", "_results", "_frozen")
        ]
        public += list((PACKAGE / "ray").glob("_*.py"))
        self.assertGreater(len(public), 25)
        self.assertEqual([found for path in public for found in undocumented(path)], [])

    def test_each_name_is_there(self) -> None:
        for name in ty.__all__:
            self.assertTrue(hasattr(ty, name), name)
        self.assertEqual(sorted(ty.__all__), list(ty.__all__))
        self.assertTrue((PACKAGE / "py.typed").exists())

    @unittest.skipUnless(importlib.util.find_spec("mypy"), "mypy is not installed")
    def test_a_program_is_checked_by_the_packages_types(self) -> None:
        right = self.mypy(PROGRAM)
        self.assertEqual(right.returncode, 0, right.stdout + right.stderr)
        wrong = self.mypy(WRONG)
        self.assertEqual(wrong.returncode, 1, wrong.stdout + wrong.stderr)
        for told in ("arg-type", "attr-defined", "Found 3 errors"):
            self.assertIn(told, wrong.stdout)

    def mypy(self, text: str) -> "subprocess.CompletedProcess[str]":
        (self.folder / "user.py").write_text(text)
        return subprocess.run(
            [
                sys.executable,
                "-m",
                "mypy",
                "--strict",
                "--follow-imports=silent",
                *CACHE,
                "user.py",
            ],
            env={"MYPYPATH": str(SOURCE), "PATH": ""},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )


if __name__ == "__main__":
    unittest.main()
