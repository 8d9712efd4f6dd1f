"""PyTorch, Lightning and Transformers as trials of a real cluster, whose processes are killed while they train."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import unittest
from typing import Any, Dict, List

from cluster import PATIENCE_S, Cluster, Programs, beside, is_there, kill, wait_for
from support import CONTROL, SOURCE, Case
from test_examples import EXAMPLES

TWO_RANKS = """
resources: {slots_per_trial: 2}
retry_backoff: {first: 0.1, cap: 0.1}
"""
CONSTANT = """
hyperparameters: {lr: {type: const, val: 0.02}}
objectives: [{metric: accuracy, mode: maximize}]
searcher: {name: random, max_trials: 1}
"""


@unittest.skipUnless(importlib.util.find_spec("torch"), "PyTorch is not installed")
@unittest.skipUnless(
    is_there(), "coordinator and worker are not found beside coordinatorctl (TRAINYARD_CTL, PATH)"
)
class RealCluster(unittest.TestCase):
    def setUp(self) -> None:
        self.cluster = Cluster()
        self.cluster.__enter__()
        self.addCleanup(self.cluster.__exit__)

    def programs(self, **more: str) -> Programs:
        return Programs(self.cluster.folder, **more)


class Ranks(RealCluster):
    ASHA = """
hyperparameters: {lr: {type: double, minval: 0.001, maxval: 0.1, log: true}}
objectives: [{metric: accuracy, mode: maximize}]
# One after the other: ASHA's decisions depend on the order of results, which a death may change.
searcher: {name: random, max_trials: 3, max_concurrent_trials: 1}
scheduler: {name: asha, min_resource: 2, max_resource: 4, eta: 2}
"""

    def test_killed_ranks_and_workers_change_no_digit_of_asha(self) -> None:
        cluster = self.cluster
        plain = self.programs()
        first, _ = cluster.worker(1), cluster.worker(1)
        spec = f"name: ranks\nseed: 5\n{self.ASHA}{TWO_RANKS}"
        undisturbed = cluster.submit("undisturbed", spec + plain.entrypoint("ranks"))
        expected = cluster.completed(undisturbed)

        held = self.programs(HOLD="1,3")
        disturbed = cluster.submit("disturbed", spec + held.entrypoint("ranks"))
        # A rank dies in the middle of its rung; its peer has to notice.
        rank = wait_for("the hold before epoch 1", lambda: held.seen("held 1", rank=1))[-1]
        self.saved(disturbed, rank.trial, 1)
        kill(rank.process)
        again = wait_for(
            "the next attempt",
            lambda: held.seen("held 1", trial=rank.trial, attempt=rank.attempt + 1, rank=1),
        )
        self.assertTrue(held.seen("from 1", trial=rank.trial, attempt=rank.attempt + 1), again)
        held.open(1)
        # A worker dies while a promoted trial is at its last epoch.
        rank = wait_for("the hold before epoch 3", lambda: held.seen("held 3", rank=0))[-1]
        self.saved(disturbed, rank.trial, 3)
        first.send_signal(signal.SIGKILL)
        first.wait()
        held.open(3)
        cluster.worker(1)
        known = cluster.completed(disturbed)

        self.assertEqual(cluster.curves(disturbed), cluster.curves(undisturbed))
        self.assertEqual(known["best_value"], expected["best_value"])
        self.assertEqual(known["best_trial"], expected["best_trial"])
        # Nobody trained an epoch again that had its checkpoint, and both deaths were seen.
        outcomes = self.outcomes(disturbed)
        self.assertGreaterEqual(len(outcomes) - outcomes.count("completed"), 2, outcomes)
        for trial in range(3):
            epochs = [
                t.what
                for t in held.trace()
                if t.trial == trial and t.rank == 0 and "trained" in t.what
            ]
            self.assertEqual(epochs, sorted(set(epochs)), trial)

    def saved(self, job: str, trial: int, epochs: int) -> None:
        def known() -> bool:
            latest = self.cluster.trials(job)[trial]["latest_checkpoint"]
            return latest is not None and latest["epoch"] == epochs

        wait_for(f"the checkpoint of trial {trial} after {epochs} epochs", known)

    def outcomes(self, job: str) -> List[str]:
        trials = self.cluster.trials(job)
        return [attempt["outcome"] for trial in trials for attempt in trial["attempts"]]

    def test_all_ranks_leave_at_one_step_and_a_paused_trial_goes_on_to_the_digit(self) -> None:
        cluster = self.cluster
        cluster.worker(2)
        spec = f"name: pause\nseed: 6\n{CONSTANT}{TWO_RANKS}"
        plain, held = self.programs(), self.programs(HOLD="2")
        undisturbed = cluster.submit("undisturbed", spec + plain.entrypoint("ranks"))
        cluster.completed(undisturbed)
        job = cluster.submit("paused", spec + held.entrypoint("ranks"))
        wait_for("the hold", lambda: held.seen("held 2", rank=0))
        self.saved(job, 0, 2)
        cluster.ctl("pause", job)
        wait_for("the pause", lambda: cluster.trials(job)[0]["state"] != "running")
        left = [t for t in held.trace() if t.what.startswith("left")]
        self.assertEqual([(t.rank, t.what) for t in left], [(0, "left 2 held"), (1, "left 2 held")])
        # As often as each other.
        waited = [len(held.seen("held 2", rank=rank)) for rank in (0, 1)]
        self.assertEqual(waited[0], waited[1])
        held.open(2)
        cluster.ctl("resume", job)
        cluster.completed(job)
        self.assertEqual(cluster.curves(job), cluster.curves(undisturbed))
        self.assertTrue(held.seen("from 2"))
        self.assertEqual(len(held.seen("from 0", rank=0)), 1)

    @unittest.skipUnless(importlib.util.find_spec("lightning"), "Lightning is not installed")
    def test_unmodified_lightning_meets_by_the_launchers_variables(self) -> None:
        cluster = self.cluster
        cluster.worker(2)
        objective = "objectives: [{metric: val_loss, mode: minimize}]\n"
        spec = f"name: lightning\nseed: 7\nmax_restarts: 0\n{CONSTANT}{TWO_RANKS}".replace(
            "objectives: [{metric: accuracy, mode: maximize}]\n", objective
        )
        programs = self.programs(DEVICES="2", NODES="1")
        job = cluster.submit("lightning", spec + programs.entrypoint("lightning_plain"))
        cluster.completed(job)
        curve = cluster.curves(job)[0]
        self.assertEqual(sorted(curve), [1, 2, 3])
        self.assertEqual((curve[3]["ranks"], curve[3]["strategy_is_ddp"]), (2, 1))
        self.assertLess(curve[3]["val_loss"], curve[1]["val_loss"])


class Population(RealCluster):
    def test_members_go_on_from_what_others_have_learnt(self) -> None:
        self.cluster.worker(2)
        programs = self.programs()
        job = self.cluster.submit(
            "population",
            """name: population
seed: 3
hyperparameters: {lr: {type: double, minval: 0.00001, maxval: 0.1, log: true}}
objectives: [{metric: loss, mode: minimize}]
searcher: {name: random, max_trials: 4}
scheduler: {name: pbt, interval: 2, max_resource: 4, quantile: 0.25}
"""
            + programs.entrypoint("population"),
        )
        known = self.cluster.completed(job)
        trace = programs.trace()
        begun = [t for t in trace if t.what.startswith("from 0 ")]
        self.assertEqual(sorted(t.trial for t in begun), [0, 1, 2, 3], "nobody begins anew")
        ends = [t for t in trace if t.what.startswith("trained 3 ")]
        self.assertEqual({t.trial for t in ends}, {0, 1, 2, 3})
        copied = [t for t in ends if "<" in t.what]
        self.assertTrue(copied, "nobody has copied anybody")
        curves = self.cluster.curves(job)
        self.assertEqual({tuple(sorted(curve)) for curve in curves.values()}, {(1, 2, 3, 4)})
        self.assertEqual(known["best_value"], min(c[e]["loss"] for c in curves.values() for e in c))
        for member in copied:
            # Another's weights and a rate of its own.
            source = int(member.what.split()[-1].split("<")[0])
            rates = {
                t.what.split()[-1] for t in trace if t.trial == member.trial and "from" in t.what
            }
            self.assertNotEqual(source, member.trial)
            self.assertEqual(len(rates), 2, rates)
            self.assertLess(curves[member.trial][3]["loss"], curves[member.trial][2]["loss"])


@unittest.skipUnless(beside("coordinatorctl"), "coordinatorctl is not found (TRAINYARD_CTL, PATH)")
class ExampleJobs(Case):
    """Each job of `examples/python`, made smaller, as `coordinatorctl run` runs it."""

    def run_job(self, name: str, *more: str) -> Dict[str, Any]:
        changes = ["searcher.max_trials=2", f"entrypoint.environment.PYTHONPATH={SOURCE}", *more]
        for variable, value in (
            ("OMP_NUM_THREADS", "1"),
            ("KERAS_BACKEND", "torch"),
            ("CUDA_VISIBLE_DEVICES", "-1"),
        ):
            changes.append(f'entrypoint.environment.{variable}="{value}"')
        # What programs write into their working directory is no part of the repository.
        copy = shutil.copytree(EXAMPLES, self.folder / "examples", dirs_exist_ok=True)
        flags = [word for change in changes for word in ("--set", change)]
        path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
        done = subprocess.run(
            [
                str(CONTROL),
                "run",
                str(copy / f"{name}.yaml"),
                "--slots",
                "2",
                "--output",
                "json",
                *flags,
            ],
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        self.assertEqual(done.returncode, 0, done.stderr[-4000:])
        return dict(json.loads(done.stdout))

    def promoted(self, name: str) -> None:
        """Of two trials one is promoted, and goes on from its checkpoint."""
        answer = self.run_job(name, "scheduler.eta=2", "scheduler.max_resource=2")
        self.assertEqual(answer["job"]["state"], "completed")
        self.assertIsNotNone(answer["job"]["best_value"])
        trials = answer["trials"]
        self.assertEqual(sorted(trial["epoch"] for trial in trials), [1, 2])
        (promoted,) = (trial for trial in trials if trial["epoch"] == 2)
        self.assertGreater(promoted["attempts"][-1]["from_step"], 0, promoted["attempts"])
        self.assertEqual(promoted["restarts"], 0)


def _add(name: str, package: str) -> None:
    @unittest.skipUnless(importlib.util.find_spec(package), f"{package} is not installed")
    def test(self: ExampleJobs) -> None:
        self.promoted(name)

    setattr(ExampleJobs, f"test_the_job_{name}_promotes_a_trial", test)


_add("keras_rings", "keras")
_add("lightning_line", "lightning")
_add("transformers_letters", "accelerate")


if __name__ == "__main__":
    unittest.main()
