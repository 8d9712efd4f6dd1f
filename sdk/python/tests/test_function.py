"""`@remote`: where a function's code is found, what becomes of what it returns, and searches on this machine."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import textwrap
import unittest
from typing import Any, Dict, List
from unittest import mock

from cluster import Cluster, is_there
from fake_worker import PATIENCE_S
from support import SOURCE, Case, control

import trainyard as ty
from trainyard import _code, _function, _remote, _shipping

SCRIPT = """
    import beside
    import trainyard as ty

    @ty.remote
    def train(config):
        for epoch in range(1, 4):
            ty.report({"loss": config["x"] / epoch + beside.BIAS}, epoch=epoch)
            if ty.should_stop():
                break
        return {"epochs": epoch}

    @ty.remote(environment={"MODE": "fast"})
    def square(config):
        import os
        assert os.environ["MODE"] == "fast"
        if config["x"] == 5:
            raise ArithmeticError("five\\nis too much")
        return (config["x"] - 3) ** 2

    @ty.remote
    def again():
        return train.search({"x": 1}, local=True)

    if __name__ == "__main__":
        WHAT
    """
# A session without a file, whose source is known as IPython makes it known.
SESSION = '''
    import linecache, sys
    text = """
    import math
    import trainyard as ty
    from collections import OrderedDict as Ordered
    BIAS = [0.5, 1]

    def helper(x):
        return math.sqrt(x) + BIAS[0]

    class Model:
        def value(self, x):
            return helper(x)

    @ty.remote
    def train(config):
        return dict(Ordered(value=Model().value(config["x"])))

    handle = open(__import__("os").devnull)

    def uses_a_file(config):
        return handle.name
    """
    import textwrap
    text = textwrap.dedent(text)
    linecache.cache["<cell 1>"] = (len(text), None, text.splitlines(True), "<cell 1>")
    exec(compile(text, "<cell 1>", "exec"), globals())
    WHAT
    '''


def outside(config: Dict[str, Any]) -> float:
    return float(config["x"])


def session(what: str) -> "subprocess.CompletedProcess[str]":
    """Runs `SESSION` as a shell without a file, and then `what`."""
    return subprocess.run(
        [sys.executable, "-"],
        input=textwrap.dedent(SESSION).replace("WHAT", what),
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )


@contextlib.contextmanager
def wrapped(config: Dict[str, Any]) -> Any:
    yield config


class Locations(Case):
    def test_a_module_of_a_package_and_its_folder(self) -> None:
        package = self.folder / "outer" / "inner"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("def at_the_top(config): pass\n")
        (package / "deep.py").write_text("def train(config): pass\n")
        sys.path.insert(0, str(self.folder))
        self.addCleanup(sys.path.remove, str(self.folder))
        import outer.inner.deep as deep  # type: ignore[import-not-found]

        found = _code.locate(deep.train)
        self.assertEqual(found.target, "outer.inner.deep:train")
        self.assertEqual(found.folder, self.folder.resolve())
        found = _code.locate(sys.modules["outer.inner"].at_the_top)
        self.assertEqual(
            (found.target, found.folder), ("outer.inner:at_the_top", self.folder.resolve())
        )

    def test_a_function_that_a_library_has_wrapped_lies_in_its_own_file(self) -> None:
        found = _code.locate(ty.remote(wrapped).function)
        self.assertEqual(found.target, f"{__name__}:wrapped")
        self.assertIsNotNone(found.folder)

    def test_a_script_that_trials_cannot_import_is_named(self) -> None:
        for name, told in (("train", "ends with .py"), ("a.b.py", "name without dots")):
            path = self.folder / name
            path.write_text(
                "import trainyard as ty\n"
                "@ty.remote\n"
                "def f(config): pass\n"
                "f.search({'x': 1}, local=True)\n"
            )
            done = subprocess.run(
                [sys.executable, str(path)],
                env={**os.environ, "PYTHONPATH": str(SOURCE)},
                capture_output=True,
                text=True,
                timeout=PATIENCE_S,
            )
            last = done.stderr.splitlines()[-1]
            self.assertTrue(last.startswith("ValueError") and told in last, done.stderr)
            self.assertIn(name, last)

    def test_a_function_whose_source_is_nowhere_is_named(self) -> None:
        code = (
            "import trainyard as ty\nexec('def f(config): pass')\n"
            "ty.remote(f).search({'x': 1}, local=True)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONPATH": str(SOURCE)},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        last = done.stderr.splitlines()[-1]
        self.assertIn("ValueError: the source of f is not to be had", last)
        self.assertIn("expected a function in a file", last)

    def test_what_is_installed_needs_no_folder(self) -> None:
        self.assertIsNone(_code.locate(textwrap.dedent).folder)

    def test_what_is_no_function_of_a_module(self) -> None:
        def inner(config: Any) -> None: ...

        table: List[Any] = [
            (lambda config: 1, TypeError, "top level"),
            (inner, TypeError, "inner, expected a function at the top level"),
            (print, TypeError, "expected a function"),
            (Case, TypeError, "expected a function"),
        ]
        for given, kind, told in table:
            with self.assertRaises(kind) as caught:
                ty.remote(given).search({"x": 1}, local=True)
            self.assertIn(told, str(caught.exception))

    def test_a_session_without_a_file_is_written_into_a_module(self) -> None:
        done = session("from trainyard import _code; print(_code.locate(train.function).source)")
        self.assertEqual(done.returncode, 0, done.stderr)
        # The module alone says the same as the session.
        space: Dict[str, Any] = {}
        exec(compile(done.stdout, "cells", "exec"), space)
        self.assertEqual(space["train"]({"x": 4}), {"value": 2.5})
        self.assertNotIn("handle", done.stdout)

    def test_what_cannot_be_written_is_named(self) -> None:
        done = session("ty.remote(uses_a_file).search({'x': 1}, local=True)")
        self.assertIn("uses_a_file uses handle, a TextIOWrapper of this session", done.stderr)


class Specs(Case):
    def test_what_a_search_submits(self) -> None:
        space = {
            "lr": ty.space.loguniform(1e-4, 1e-1),
            "layers": ty.space.integer(1, 5, step=2, when={"opt": ["sgd"]}),
            "opt": ["adam", "sgd"],
            "model.width": 8,
        }
        spec = ty.remote(outside).spec(
            space,
            objectives={"loss": "minimize", "accuracy": "maximize"},
            n_trials=9,
            searcher="tpe",
            scheduler={"name": "asha", "max_resource": 9},
            seed=4,
        )
        self.assertEqual(
            spec["hyperparameters"],
            {
                "lr": {"type": "double", "minval": 1e-4, "maxval": 1e-1, "log": True},
                "layers": {
                    "type": "int",
                    "minval": 1,
                    "maxval": 5,
                    "step": 2,
                    "when": {"opt": ["sgd"]},
                },
                "opt": {"type": "categorical", "vals": ["adam", "sgd"]},
                "model.width": {"type": "const", "val": 8},
            },
        )
        self.assertEqual(spec["searcher"], {"name": "tpe", "max_trials": 9})
        self.assertEqual(spec["objectives"][1], {"metric": "accuracy", "mode": "maximize"})
        self.assertEqual((spec["seed"], spec["name"]), (4, "outside"))
        command = spec["entrypoint"]["command"]
        self.assertEqual(command[-3:], [f"{__name__}:outside", "--value", "loss"])

    def test_what_is_wrong_is_told(self) -> None:
        train = ty.remote(outside)
        some = {"x": ty.space.uniform(0, 1)}
        table: List[Any] = [
            (lambda: train.spec(some), ValueError, "n_trials is None"),
            (lambda: train.spec([1], n_trials=1), TypeError, "space is [1]"),
            (
                lambda: train.spec({"x": print}, n_trials=1),
                TypeError,
                "'x' of the space is <built-in",
            ),
            (lambda: train.spec(some, n_trials=1, objectives=[]), ValueError, "objectives is []"),
            (lambda: train.spec(some, n_trials=1, scheduler=3), TypeError, "scheduler is 3"),
            (lambda: train.search(some, n_trials=1, slots=2), ValueError, "slots is 2"),
            (lambda: ty.remote(command=[])(outside), ValueError, "command is made of"),
            (lambda: ty.remote(lambda a, b: 1), TypeError, "takes several arguments"),
            (
                lambda: train.search(some, n_trial=3),
                TypeError,
                "outside.search got n_trial=3; did you mean 'n_trials'? accepted are",
            ),
            (
                lambda: train.spec(some, n_trials=1, objective="loss"),
                TypeError,
                "got objective='loss'; did you mean 'objectives'?",
            ),
            (lambda: train.search(some, n_trials=1, xyz=1), TypeError, "got xyz=1: accepted are"),
            (
                lambda: ty.remote(enviroment={})(outside),
                TypeError,
                "@remote got enviroment={}; did you mean 'environment'?",
            ),
            (lambda: ty.space.uniform(1, 0), ValueError, "the range of 'the range' is 1.0 to 0.0"),
            (lambda: ty.space.loguniform(0, 1), ValueError, "with log=True"),
            (lambda: ty.space.choice("abc"), TypeError, "values is 'abc'"),
            (lambda: ty.space.choice([]), ValueError, "values is empty"),
        ]
        for call, kind, told in table:
            with self.assertRaises(kind) as caught:
                call()
            self.assertIn(told, str(caught.exception))

    def test_within_a_trial_no_search_begins(self) -> None:
        self.worker()
        with self.assertRaisesRegex(ValueError, "search was called in a trial"):
            ty.remote(outside).search({"x": 1})


class Values(Case):
    def test_what_is_returned_is_reported(self) -> None:
        worker = self.worker(params={"x": 2})
        for returned, metrics in (
            (3, {"loss": 3}),
            ({"accuracy": 0.5}, {"accuracy": 0.5}),
            (None, None),
            (True, {"loss": 1}),
        ):
            before = len(worker.reports)
            _remote.call(lambda config: returned, "loss")
            ty.should_stop()
            found = [report["metrics"] for report in worker.reports[before:]]
            self.assertEqual(found, [] if metrics is None else [metrics])
        with self.assertRaisesRegex(
            TypeError, "the function returned 'x' .str., expected a mapping"
        ):
            _remote.call(lambda: "x", "loss")

    def test_an_exception_ends_with_its_traceback_and_one_line(self) -> None:
        (self.folder / "bad.py").write_text(
            "def f(config):\n    raise KeyError('one\\n two')\n\nx = 3\n"
        )
        for target, last in (
            ("bad:f", "KeyError: 'one\\n two'"),
            ("bad:x", "ImportError: bad has no function x: it is 3"),
            ("none:f", "ModuleNotFoundError: No module named 'none'"),
        ):
            done = subprocess.run(
                [sys.executable, "-m", "trainyard._remote", target],
                env={**os.environ, "PYTHONPATH": str(SOURCE)},
                capture_output=True,
                text=True,
                timeout=PATIENCE_S,
            )
            self.assertEqual(done.returncode, 1)
            self.assertEqual(done.stderr.splitlines()[-1], last)
            self.assertEqual(done.stderr.startswith("Traceback"), target != "bad:x")
            self.assertNotIn("_remote.py", done.stderr)


@unittest.skipUnless(control(), "coordinatorctl is not found (TRAINYARD_CTL, PATH)")
class Searches(Case):
    def script(self, what: str) -> "subprocess.CompletedProcess[str]":
        (self.folder / "beside.py").write_text("BIAS = 1\n")
        return self.program(textwrap.dedent(SCRIPT).replace("WHAT", what), {})

    def test_a_script_searches_on_this_machine(self) -> None:
        done = self.script(
            'job = train.search({"x": ty.space.uniform(0, 1)}, objectives="loss", n_trials=3, local=True);'
            "print(job.best()['value'], job.best()['trial']['metrics']);"
            "print(len(job.curves(frame=False)), job.trials(frame=False)[0]['epoch'])"
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        first, second = done.stdout.splitlines()
        self.assertLess(float(first.split()[0]), 2)
        self.assertIn("'epochs': 3.0", first)
        self.assertTrue(second.endswith(" 3"), second)
        self.assertIn("completed, 3/3 trials", done.stderr)

    def test_an_exception_is_the_trials_error(self) -> None:
        done = self.script(
            'job = square.search({"x": [2, 5]}, searcher="grid", local=True, max_restarts=0,'
            " max_failed_trials=2);"
            "print(*[(t['best_value'], t['error']) for t in job.trials(frame=False)], sep='\\n');"
            "print(*[line['text'] for line in job.logs(trial=1)], sep='\\n')"
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("(1.0, None)", done.stdout)
        self.assertIn("ArithmeticError: five", done.stdout.splitlines()[1])
        self.assertIn('raise ArithmeticError("five', done.stdout)

    def test_a_job_that_fails_raises(self) -> None:
        done = self.script("again.search({}, local=True, max_restarts=0)")
        self.assertIn("trainyard.job.JobFailed", done.stderr)
        self.assertIn("train.search was called in a trial", done.stderr)

    def test_a_wrong_spec_is_told(self) -> None:
        done = self.script('train.search({"x": 1}, local=True, max_restarts=-1)')
        self.assertIn("ValueError", done.stderr.splitlines()[-1] + done.stderr)
        self.assertIn("max_restarts", done.stderr)

    def test_every_field_of_a_spec_is_taken(self) -> None:
        done = subprocess.run([str(control()), "schema"], capture_output=True, text=True)
        schema = json.loads(done.stdout)
        # Of the built-in trainer, or made of `search`'s own arguments.
        trainers = {"data", "split", "preprocess", "model", "training"}
        own = {"name", "hyperparameters", "entrypoint", "objectives", "searcher", "scheduler"}
        fields = set(schema["properties"]) - trainers - own
        self.assertGreater(len(fields), 10)
        self.assertEqual(fields - set(_function.FIELDS), set())
        program = schema["properties"]["entrypoint"]
        while "properties" not in program:
            options = program.get("anyOf") or program.get("oneOf") or [program]
            program = next(option for option in options if option.get("type") != "null")
            if "$ref" in program:
                *_, name = program["$ref"].split("/")
                program = schema["$defs"][name]
        fields = set(program["properties"]) - set(_function.OURS)
        self.assertEqual(fields - set(_function.ENTRYPOINT_FIELDS), set())

    def test_a_session_without_a_file_searches(self) -> None:
        done = session(
            "print(train.search({'x': [1, 4]}, searcher='grid', local=True).best()['value'])"
        )
        self.assertEqual((done.stdout, done.returncode), ("1.5\n", 0), done.stderr)


class Folders(Case):
    def test_the_package_goes_along(self) -> None:
        own = self.folder / "own"
        (own / "data").mkdir(parents=True)
        (own / ".git").mkdir()
        (own / ".git" / "config").write_text("")
        (own / "train.py").write_text("def f(): pass\n")
        (own / "data" / "x").write_text("x")
        (own / "link").symlink_to("data/x")
        code = _code.Code("train:f", own)
        with _shipping.folder(code, with_package=True) as made:
            assert made is not None
            self.assertEqual(set(os.listdir(made)), {"data", "link", "train.py", "trainyard"})
            self.assertEqual(os.readlink(made / "link"), "data/x")
            self.assertEqual((made / "data" / "x").read_text(), "x")
            done = subprocess.run(
                [sys.executable, "-m", "trainyard._remote", "train:f"],
                cwd=made,
                env={"PATH": os.environ["PATH"]},
                capture_output=True,
                text=True,
            )
            self.assertEqual(done.returncode, 0, done.stderr)
        self.assertFalse(made.exists())
        self.assertTrue((own / "data" / "x").exists())
        with _shipping.folder(code, with_package=False) as made:
            self.assertEqual(made, own)
        (own / "trainyard").mkdir()
        with _shipping.folder(code, with_package=True) as made:
            self.assertEqual(made, own)

    def test_a_folder_that_is_too_large_goes_along_as_it_is(self) -> None:
        for name in "abc":
            (self.folder / name).write_text(name)
        with mock.patch.object(_shipping, "MAX_FILES", 2):
            with _shipping.folder(_code.Code("a:f", self.folder), with_package=True) as made:
                self.assertEqual(made, self.folder)
        self.assertIn("has to be installed on the workers", self.warnings[0])

    def test_what_is_installed_needs_this_package_alone(self) -> None:
        with _shipping.folder(_code.Code("json:dumps", None), with_package=True) as made:
            assert made is not None
            self.assertEqual(os.listdir(made), ["trainyard"])
        with _shipping.folder(_code.Code("json:dumps", None), with_package=False) as made:
            self.assertIsNone(made)


@unittest.skipUnless(is_there(), "coordinator and worker are not found (TRAINYARD_CTL, PATH)")
class OnACluster(Case):
    def test_a_script_is_shipped_with_its_folder_and_this_package(self) -> None:
        # The worker does not have this package.
        os.environ.pop("PYTHONPATH", None)
        code = self.folder / "code"
        code.mkdir()
        (code / "beside.py").write_text("BIAS = 1\n")
        search = (
            'job = train.search({"x": ty.space.uniform(0, 1)}, objectives="loss", n_trials=3, '
            f"checkpoint_storage={{'url': {str(self.folder / 'store')!r}}}); print(job.job_id)"
        )
        (code / "train.py").write_text(textwrap.dedent(SCRIPT).replace("WHAT", search))
        with Cluster() as cluster:
            done = subprocess.run(
                [sys.executable, str(code / "train.py")],
                env={**cluster.environment, "PYTHONPATH": str(SOURCE)},
                capture_output=True,
                text=True,
                timeout=PATIENCE_S,
            )
            self.assertEqual(done.returncode, 0, done.stderr)
            # Neither the folder nor what was made of it is needed from here on.
            shutil.rmtree(code)
            cluster.worker(2)
            job = done.stdout.strip()
            cluster.completed(job)
            metrics = [trial["metrics"] for trial in cluster.trials(job)]
            self.assertEqual([found["epochs"] for found in metrics], [3, 3, 3])


if __name__ == "__main__":
    unittest.main()
