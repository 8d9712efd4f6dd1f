"""Scripts as users of Optuna write them: each runs with `trainyard.optuna`, and with Optuna itself where it is installed."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import textwrap
import threading
import unittest
from typing import Any, List

from fake_worker import PATIENCE_S
from support import SOURCE, Case, control

import trainyard as ty
import trainyard.optuna as optuna
from trainyard import TrialState
from trainyard.optuna.distributions import CategoricalDistribution, FloatDistribution

# Two objectives, a queue, known trials, callbacks, attributes, a front.
FRONT = """
    import IMPORT as optuna
    from IMPORT.trial import TrialState, create_trial
    from IMPORT.distributions import FloatDistribution, IntDistribution

    def objective(trial):
        x = trial.suggest_float("x", 0, 5)
        y = trial.suggest_int("y", 0, 3)
        trial.set_user_attr("sum", x + y)
        return 4 * x**2 + 4 * y**2, (x - 5) ** 2 + (y - 5) ** 2

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        study_name="front",
        directions=["minimize", optuna.study.StudyDirection.MINIMIZE],
        sampler=optuna.samplers.NSGAIISampler(seed=3),
    )
    study.set_metric_names(["near", "far"])
    study.add_trial(create_trial(
        params={"x": 1.0, "y": 1},
        distributions={"x": FloatDistribution(0, 5), "y": IntDistribution(0, 3)},
        values=[8.0, 32.0],
    ))
    study.enqueue_trial({"x": 2.5, "y": 2})
    study.enqueue_trial({"x": 2.5, "y": 2}, skip_if_exists=True)
    ended = []
    study.optimize(objective, n_trials=20, callbacks=[lambda study, trial: ended.append(trial.number)])
    print(len(study.trials), ended == list(range(1, 21)), study.trials[1].params)
    front = study.best_trials
    print(all(len(trial.values) == 2 for trial in front), 1 <= len(front) < 21)
    print(study.directions[0].name, study.metric_names)
    try:
        study.best_trial
    except RuntimeError:
        print("several")
    """
# One objective, pruned; asked and told; stopped by a callback.
PRUNED = """
    import IMPORT as optuna
    from IMPORT.pruners import MedianPruner
    from IMPORT.samplers import RandomSampler
    from IMPORT.study import MaxTrialsCallback
    from IMPORT.trial import FixedTrial, TrialState

    def objective(trial):
        x = trial.suggest_float("x", 0.001, 1, log=True)
        kind = trial.suggest_categorical("kind", ("a", None, 3))
        for step in range(10):
            trial.report(x + 1 / (step + 1), step)
            if trial.should_prune():
                raise optuna.TrialPruned()
        return x

    print(objective(FixedTrial({"x": 0.5, "kind": None})))
    study = optuna.create_study(
        direction="minimize", sampler=RandomSampler(seed=1), pruner=MedianPruner(n_startup_trials=3)
    )
    study.optimize(
        objective, timeout=600, callbacks=[MaxTrialsCallback(40, states=(TrialState.COMPLETE, TrialState.PRUNED))],
        gc_after_trial=True,
    )
    pruned = study.get_trials(deepcopy=False, states=[TrialState.PRUNED])
    complete = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    print(len(study.trials), len(pruned) > 3, len(complete) > 3)
    best = study.best_trial
    print(best.value == study.best_value < 0.05, sorted(best.params), best.last_step, best.state.name)
    print(sorted(best.distributions), best.duration.total_seconds() >= 0, study.direction.name)
    trial = study.ask()
    trial.suggest_float("x", 0.001, 1, log=True)
    study.tell(trial.number, 0.7)
    trial = study.ask({"kind": optuna.distributions.CategoricalDistribution(("a", None, 3))})
    print(list(trial.params), study.tell(trial, state=TrialState.FAIL).state.name)
    print(study.tell(trial, state=TrialState.FAIL, skip_if_finished=True).number == trial.number)
    """
# Errors that are caught, several threads, a table.
TABLE = """
    import IMPORT as optuna

    def objective(trial):
        x = trial.suggest_float("x", -10, 10)
        if trial.number == 3:
            raise ValueError("three")
        trial.set_user_attr("double", 2 * x)
        return (x - 2) ** 2

    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=1))
    study.optimize(objective, n_trials=24, n_jobs=3, catch=(ValueError,))
    states = [trial.state.name for trial in study.trials]
    print(len(states), states.count("FAIL"), states.index("FAIL"), study.best_value < 1)
    print([trial.number for trial in study.trials] == list(range(24)))
    frame = study.trials_dataframe(attrs=("number", "value", "params", "user_attrs", "state"))
    print(list(frame.columns), frame.shape, frame.loc[0, "state"])
    """


def run(text: str, package: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-"],
        input=textwrap.dedent(text).replace("IMPORT", package),
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )


@unittest.skipUnless(control(), "coordinatorctl is not found (TRAINYARD_CTL, PATH)")
class Scripts(Case):
    def both(self, text: str, expected: str) -> None:
        ours = run(text, "trainyard.optuna")
        self.assertEqual(ours.stdout, textwrap.dedent(expected).lstrip(), ours.stderr)
        if importlib.util.find_spec("optuna") is None:
            self.skipTest("Optuna is not installed: the script ran with this package alone")
        theirs = run(text, "optuna")
        self.assertEqual(theirs.stdout, ours.stdout, theirs.stderr)

    def test_two_objectives(self) -> None:
        self.both(
            FRONT,
            """
            21 True {'x': 2.5, 'y': 2}
            True True
            MINIMIZE ['near', 'far']
            several
            """,
        )

    def test_pruning_asking_telling(self) -> None:
        self.both(
            PRUNED,
            """
            0.5
            40 True True
            True ['kind', 'x'] 9 COMPLETE
            ['kind', 'x'] True MINIMIZE
            ['kind'] FAIL
            True
            """,
        )

    @unittest.skipUnless(importlib.util.find_spec("pandas"), "pandas is not installed")
    def test_threads_and_a_table(self) -> None:
        self.both(
            TABLE,
            """
            24 1 3 True
            True
            ['number', 'value', 'params_x', 'user_attrs_double', 'state'] (24, 5) COMPLETE
            """,
        )


@unittest.skipUnless(control(), "coordinatorctl is not found (TRAINYARD_CTL, PATH)")
class Threads(Case):
    def test_trials_run_at_once_after_the_first(self) -> None:
        together: List[int] = []
        meeting = threading.Barrier(3, timeout=PATIENCE_S)

        def objective(trial: ty.Trial) -> float:
            x = trial.suggest_float("x", 0, 1)
            if 1 <= trial.number <= 3:
                # Passed only where three are here at one time.
                meeting.wait()
                together.append(trial.number)
            return x

        study = ty.create_study()
        study.optimize(objective, n_trials=12, n_jobs=3)
        self.assertEqual(sorted(together), [1, 2, 3])
        self.assertEqual([t.number for t in study.trials], list(range(12)))
        self.assertEqual(len({t.params["x"] for t in study.trials}), 12)

    def test_an_error_in_one_thread_ends_the_others(self) -> None:
        def objective(trial: ty.Trial) -> float:
            x = trial.suggest_float("x", 0, 1)
            if trial.number == 5:
                raise ZeroDivisionError
            return x

        study = ty.create_study()
        with self.assertRaises(ZeroDivisionError):
            study.optimize(objective, n_jobs=4)
        self.assertIn(TrialState.FAIL, [t.state for t in study.trials])

    def test_a_space_that_grows_under_threads(self) -> None:
        def objective(trial: ty.Trial) -> float:
            n = trial.suggest_int("n", 1, 6)
            return sum(trial.suggest_float(f"x{i}", 0, 1) for i in range(n))

        study = ty.create_study()
        study.optimize(objective, n_trials=30, n_jobs=4)
        self.assertEqual(len(study.trials), 30)
        self.assertTrue(all(len(t.params) == t.params["n"] + 1 for t in study.trials))


class Words(Case):
    def test_what_is_not_there_says_so(self) -> None:
        table: List[Any] = [
            (
                lambda: ty.create_study(storage="sqlite:///x"),
                ValueError,
                "storage is 'sqlite:///x'",
            ),  # type: ignore[arg-type]
            (lambda: ty.create_study(load_if_exists=True), ValueError, "a study is not stored"),
            (
                lambda: ty.create_study(direction="minimize", directions=["minimize"]),
                ValueError,
                "both",
            ),
            (lambda: ty.create_study(directions=[]), ValueError, "directions is empty"),
            (lambda: optuna.load_study(study_name="x"), NotImplementedError, "not stored"),
            (lambda: optuna.visualization, AttributeError, "coordinatorctl insight"),
            (lambda: optuna.nonsense, AttributeError, "no attribute 'nonsense'"),
            (lambda: optuna.samplers.GridSampler, AttributeError, "searcher: grid"),
            (lambda: optuna.pruners.WilcoxonPruner, AttributeError, "MedianPruner"),
            (optuna.pruners.HyperbandPruner, ValueError, "max_resource is 'auto'"),
            (optuna.pruners.ThresholdPruner, ValueError, "neither lower nor upper"),
            (lambda: optuna.samplers.QMCSampler(qmc_type="x"), ValueError, "qmc_type is 'x'"),
            (lambda: ty.create_study().get_trials([TrialState.FAIL]), TypeError, "deepcopy is"),  # type: ignore[arg-type]
            (
                lambda: ty.create_study().trials_dataframe(multi_index=True),
                ValueError,
                "multi_index",
            ),
            (lambda: ty.create_study().set_metric_names(["a", "b"]), ValueError, "expected 1"),
            (lambda: optuna.create_trial(params={"x": 1}, value=2), ValueError, "the same names"),
            (optuna.create_trial, ValueError, "either value or values"),
            (lambda: optuna.trial.FixedTrial({}).suggest_int("a", 1, 2), ValueError, "not fixed"),
            (
                lambda: ty.create_study(directions=["minimize"] * 2, pruner="median_stopping"),
                ValueError,
                "expected none with several objectives",
            ),
            (
                lambda: ty.create_study(
                    direction="maximize", pruner=optuna.pruners.ThresholdPruner(upper=1)
                ),
                ValueError,
                "needs the pruner's lower bound",
            ),
            (
                lambda: ty.create_study().add_trial(optuna.create_trial(values=[1, 2])),
                ValueError,
                "the trial has 2 values, expected 1",
            ),
        ]
        for call, kind, told in table:
            with self.assertRaises(kind) as caught:
                call()
            self.assertIn(told, str(caught.exception))

    def test_options_without_effect_are_told_once(self) -> None:
        for _ in range(2):
            optuna.samplers.TPESampler(seed=1, n_startup_trials=3, multivariate=True)
        self.assertEqual(len(self.warnings), 1)
        self.assertIn("multivariate, n_startup_trials have no effect", self.warnings[0])

    def test_a_known_trial_by_hand(self) -> None:
        trial = optuna.create_trial(
            params={"x": 1.0, "kind": None},
            distributions={
                "x": FloatDistribution(0, 2),
                "kind": CategoricalDistribution([3, None]),
            },
            value=2,
        )
        self.assertEqual((trial.value, trial.internal), (2.0, {"x": 1.0, "kind": 1}))
        study = ty.create_study()
        study.add_trials([trial])
        self.assertEqual((study.best_params, study.trials[0].number), ({"x": 1.0, "kind": None}, 0))


@unittest.skipUnless(control(), "coordinatorctl is not found (TRAINYARD_CTL, PATH)")
class Pruners(Case):
    def test_each_pruner_is_a_scheduler(self) -> None:
        def objective(trial: ty.Trial) -> float:
            x = trial.suggest_float("x", 0, 1)
            for step in range(16):
                trial.report(x + 1 / (step + 1), step)
                if trial.should_prune():
                    raise optuna.TrialPruned
            return x

        p = optuna.pruners
        for pruner, least in (
            (p.NopPruner(), 0),
            (p.MedianPruner(2, 3), 1),
            (p.SuccessiveHalvingPruner(reduction_factor=2), 1),
            (p.HyperbandPruner(1, 16), 1),
            (p.ThresholdPruner(upper=1.2), 1),
            (p.PatientPruner(None, patience=2), 0),
        ):
            study = ty.create_study(sampler="random", pruner=pruner)
            study.optimize(objective, n_trials=25)
            pruned = len(study.get_trials(states=[TrialState.PRUNED]))
            self.assertGreaterEqual(pruned, least, pruner)
            self.assertLess(pruned, 25)

    def test_without_a_pruner_it_is_the_median_and_steps_may_go_back(self) -> None:
        def objective(trial: ty.Trial) -> float:
            x = trial.suggest_float("x", 0, 1)
            for step in (0, 3, 1, 7, 2):
                trial.report(x, step)
                if trial.should_prune():
                    raise optuna.TrialPruned
            return x

        pruned = []
        for create in (optuna.create_study, ty.create_study):
            study = create(sampler=optuna.samplers.RandomSampler(seed=1))
            study.optimize(objective, n_trials=25)
            pruned.append(len(study.get_trials(states=[TrialState.PRUNED])))
        self.assertGreater(pruned[0], 0)
        self.assertEqual(pruned[1], 0)

    def test_an_objective_stops_its_study(self) -> None:
        def objective(trial: ty.Trial) -> float:
            if trial.number == 4:
                trial.study.stop()
            return trial.suggest_float("x", 0, 1)

        study = ty.create_study()
        study.optimize(objective)
        self.assertEqual(len(study.trials), 5)

    def test_the_progress_is_told(self) -> None:
        done = run(
            "import trainyard as ty\n"
            "ty.create_study().optimize(lambda t: t.suggest_float('x', 0, 1), 2, show_progress_bar=True)",
            "",
        )
        self.assertIn("trial 0 complete 0.5, best 0.5 (trial 0)", done.stderr)
        self.assertEqual(done.returncode, 0)


if __name__ == "__main__":
    unittest.main()
