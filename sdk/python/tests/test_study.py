"""Studies: spaces that objectives define by running, and the searcher of `coordinatorctl` underneath."""

from __future__ import annotations

import math
import os
import random
import unittest
from typing import Any, List
from unittest import mock

from support import Case, control

import trainyard as ty
from trainyard import TrialState, _driver
from trainyard._space import Choice, Space, numeric


class Spaces(Case):
    """Without a process."""

    def test_ranges_are_as_optuna_has_them(self) -> None:
        float_, int_ = {"whole": False, "log": False}, {"whole": True, "log": False}
        stepped = numeric("x", 0, 1, step=0.3, **float_)
        self.assertAlmostEqual(stepped.high, 0.9)
        self.assertIn(round(stepped.middle(), 9), (0.3, 0.6))
        self.assertEqual(numeric("n", 1, 8, step=3, **int_).high, 7)
        self.assertAlmostEqual(
            numeric("lr", 1e-4, 1, whole=False, log=True, step=None).middle(), 1e-2
        )
        source = random.Random(1)
        for distribution in (stepped, numeric("n", 1, 8, step=3, **int_), Choice(("a", None))):
            for _ in range(100):
                self.assertTrue(distribution.holds(distribution.draw(source)))

    def test_ranges_that_are_none(self) -> None:
        table = [
            ((1, 0, None, False, False), ValueError, "the range of 'x' is 1.0 to 0.0"),
            ((0, 1, None, True, False), ValueError, "low of 'x' is 0.0, expected more than 0"),
            ((0, 1, 0, False, False), ValueError, "step of 'x' is 0.0"),
            ((1, 2, 0.5, True, False), ValueError, "expected one of them"),
            ((0, math.inf, None, False, False), ValueError, "0.0 to inf"),
            (("0", 1, None, False, False), TypeError, "low of 'x' is '0' (str)"),
            ((0.5, 1, 1, False, True), TypeError, "low of 'x' is 0.5 (float)"),
            ((True, 2, 1, False, True), TypeError, "low of 'x' is True (bool)"),
        ]
        for (low, high, step, log, whole), kind, told in table:
            with self.assertRaises(kind) as caught:
                numeric("x", low, high, whole=whole, log=log, step=step)
            self.assertIn(told, str(caught.exception))

    def test_conditions_are_found_where_one_parent_explains_all(self) -> None:
        space = Space()
        space.widen("opt", Choice(("sgd", "adam")))
        space.widen("lr", numeric("lr", 0, 1, whole=False, log=False, step=None))
        space.widen("momentum", numeric("m", 0, 1, whole=False, log=False, step=None))
        seen = [
            {"opt": 0, "lr": 0.1, "momentum": 0.9},
            {"opt": 1, "lr": 0.1},
            {"opt": 0, "lr": 0.2, "momentum": 0.8},
        ]
        self.assertEqual(space.condition("momentum", seen), ("opt", [0]))
        self.assertIsNone(space.condition("lr", seen))
        self.assertEqual(space.spec(seen)["p2"]["when"], {"p0": [0]})
        source = random.Random(1)
        self.assertEqual(
            space.prior(seen[1], 3.0, seen, source), {"params": {"p0": 1, "p1": 0.1}, "value": 3.0}
        )
        # A trial that contradicts it: no parent is left, and any momentum would have given that value.
        seen.append({"opt": 0, "lr": 0.3})
        self.assertIsNone(space.condition("momentum", seen))
        self.assertEqual(set(space.prior(seen[1], 3.0, seen, source)["params"]), {"p0", "p1", "p2"})

    def test_a_space_grows_and_does_not_change_its_kind(self) -> None:
        space = Space()
        narrow = numeric("n", 1, 4, whole=True, log=False, step=1)
        wide = numeric("n", 0, 3, whole=True, log=False, step=1)
        self.assertTrue(space.widen("n", narrow))
        self.assertFalse(space.widen("n", narrow))
        self.assertTrue(space.widen("n", wide))
        self.assertFalse(space.widen("n", wide))
        self.assertEqual((space.spec([])["p0"]["minval"], space.spec([])["p0"]["maxval"]), (0, 4))
        for other in (Choice((1, 2)), numeric("n", 1, 4, whole=True, log=True, step=None)):
            with self.assertRaisesRegex(ValueError, "'n' was"):
                space.widen("n", other)


class Arguments(Case):
    def test_what_a_study_is_not(self) -> None:
        table: List[Any] = [
            ({"direction": "up"}, ValueError, "direction is 'up'"),
            ({"sampler": 3}, TypeError, "sampler is 3"),
            ({"seed": -1}, ValueError, "seed is -1"),
            ({"pruner": "hyperband"}, ValueError, "pruner is 'hyperband'"),
            ({"pruner": 3}, TypeError, "pruner is of type int"),
            ({"pruner": {"name": "asha", "variant": "promotion"}}, ValueError, "variant"),
        ]
        for arguments, kind, told in table:
            with self.assertRaises(kind) as caught:
                ty.create_study(**arguments)
            self.assertIn(told, str(caught.exception))
        study = ty.create_study()
        with self.assertRaisesRegex(ValueError, "n_jobs is 0, expected 1 to 256, or -1"):
            study.optimize(lambda trial: 0.0, 1, n_jobs=0)
        with self.assertRaisesRegex(ValueError, "no trial has completed"):
            print(study.best_trial)

    def test_a_missing_program_is_told(self) -> None:
        os.environ["TRAINYARD_CTL"] = "/nowhere"
        study = ty.create_study()
        with self.assertRaisesRegex(FileNotFoundError, "TRAINYARD_CTL is '/nowhere', expected"):
            study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)


@unittest.skipUnless(control(), "coordinatorctl is not found (TRAINYARD_CTL, PATH)")
class Studies(Case):
    def test_a_minimum_is_found_and_a_seed_repeats_it(self) -> None:
        def objective(trial: ty.Trial) -> float:
            x = trial.suggest_float("x", -5, 5)
            return (x - 2) ** 2 + trial.suggest_int("n", 1, 8)

        found = []
        for _ in range(2):
            study = ty.create_study(seed=7)
            study.optimize(objective, n_trials=20)
            found.append([trial.params for trial in study.trials])
        self.assertEqual(found[0], found[1])
        self.assertEqual(len(study.trials), 20)
        self.assertLess(study.best_value, 1.1)
        self.assertEqual(study.best_params["n"], 1)
        self.assertEqual(study.best_trial.state, TrialState.COMPLETE)
        # It goes on from what it knows, and does not try again what it has tried.
        study.optimize(objective, n_trials=5)
        self.assertEqual([trial.number for trial in study.trials], list(range(25)))
        self.assertEqual(len({tuple(t.params.values()) for t in study.trials}), 25)

    def test_maximize(self) -> None:
        study = ty.create_study(direction="maximize")
        study.optimize(lambda trial: -abs(trial.suggest_float("x", 0, 10) - 3), n_trials=15)
        self.assertGreater(study.best_value, -0.5)

    def test_a_space_with_branches(self) -> None:
        def objective(trial: ty.Trial) -> float:
            kind = trial.suggest_categorical("kind", ["flat", None, ("deep", 3)])
            if kind is None:
                return 5.0
            if kind == "flat":
                return 1 + trial.suggest_float("a", 0, 1)
            layers = trial.suggest_int("layers", 1, 3)
            return min(trial.suggest_float(f"w{i}", 0, 1) for i in range(layers))

        study = ty.create_study(seed=1)
        study.optimize(objective, n_trials=40)
        self.assertEqual(study.best_params["kind"], ("deep", 3))
        self.assertLess(study.best_value, 0.2)
        for trial in study.trials:
            self.assertEqual("a" in trial.params, trial.params["kind"] == "flat")
        conditions = study._space.spec([t.internal for t in study.trials])
        self.assertEqual(conditions[study._space.key("a")]["when"].keys(), {"p0"})

    def test_ranges_that_move(self) -> None:
        def objective(trial: ty.Trial) -> float:
            high = trial.suggest_int("high", 1, 10)
            low = trial.suggest_int("low", 0, high)
            self.assertTrue(0 <= low <= high)
            self.assertEqual(trial.suggest_int("one", 3, 3), 3)
            return float(high - low)

        study = ty.create_study()
        with mock.patch.object(_driver, "Search", wraps=_driver.Search) as begun:
            study.optimize(objective, n_trials=25)
        self.assertLessEqual(study.best_value, 1)
        # What was asked for and what was tried are two things where a range has moved: the search is not told.
        self.assertGreater(begun.call_count, 1)

    def test_a_pruner_stops_the_worse(self) -> None:
        def objective(trial: ty.Trial) -> float:
            x = trial.suggest_float("x", 0, 1)
            for epoch in range(9):
                trial.report(x + 1 / (epoch + 1), epoch)
                if trial.should_prune():
                    raise ty.TrialPruned
            return x

        for pruner in ({"name": "asha", "max_resource": 9}, "median_stopping"):
            study = ty.create_study(pruner=pruner, sampler="random", seed=3)
            study.optimize(objective, n_trials=30)
            pruned = study.get_trials(states=[TrialState.PRUNED])
            self.assertGreater(len(pruned), 5, pruner)
            self.assertGreater(len(study.get_trials(states=[TrialState.COMPLETE])), 0, pruner)
            self.assertLess(len(pruned[0].intermediate_values), 9)
            self.assertEqual(pruned[0].value, list(pruned[0].intermediate_values.values())[-1])

    def test_ends_of_all_kinds(self) -> None:
        def objective(trial: ty.Trial) -> float:
            trial.suggest_float("x", 0, 1)
            trial.set_user_attr("number", trial.number)
            if trial.number == 1:
                return math.nan
            if trial.number == 2:
                ty.infeasible("cannot be")
            if trial.number == 3:
                raise KeyError("lost")
            if trial.number == 4:
                raise ty.TrialPruned
            return 1.0

        seen = []
        study = ty.create_study()
        with self.printed():
            study.optimize(
                objective,
                n_trials=7,
                catch=KeyError,
                callbacks=[
                    lambda s, t: seen.append(t.number),
                    lambda s, t: t.number == 5 and s.stop(),
                ],
            )
        states = [trial.state.name for trial in study.trials]
        self.assertEqual(states, ["COMPLETE", "FAIL", "FAIL", "FAIL", "PRUNED", "COMPLETE"])
        self.assertEqual(seen, list(range(6)))
        self.assertEqual(study.trials[3].user_attrs, {"number": 3})
        with self.assertRaises(ZeroDivisionError):
            study.optimize(lambda trial: 1 / 0, n_trials=3)
        with self.assertRaisesRegex(TypeError, "the objective's value is 'x'"):
            study.optimize(lambda trial: "x", n_trials=3)  # type: ignore[arg-type,return-value]
        self.assertEqual([t.state.name for t in study.trials[6:]], ["FAIL", "FAIL"])

    def test_a_finite_space_ends_and_a_queue_comes_first(self) -> None:
        study = ty.create_study()
        study.enqueue_trial({"a": True})
        with self.assertRaisesRegex(ValueError, "'a' is to be 5"):
            study.enqueue_trial({"a": 5})
            study.optimize(lambda trial: trial.suggest_categorical("a", [False, True, "x"]) == 1)
        study = ty.create_study()
        study.enqueue_trial({"a": "x"})
        study.optimize(lambda trial: trial.suggest_categorical("a", [False, True, "x"]) == "x")
        self.assertEqual(sorted(str(t.params["a"]) for t in study.trials), ["False", "True", "x"])
        self.assertEqual(study.trials[0].params, {"a": "x"})

    def test_ask_and_tell(self) -> None:
        study = ty.create_study()
        for _ in range(5):
            trial = study.ask()
            study.tell(trial, trial.suggest_float("x", 0, 1))
        first, second = study.ask(), study.ask()
        study.tell(second, second.suggest_float("x", 0, 1))
        study.tell(first, state=TrialState.FAIL)
        self.assertEqual(sorted(t.number for t in study.trials), list(range(7)))
        with self.assertRaisesRegex(ValueError, "not running"):
            study.tell(first, 1.0)
        study._driver.close()

    def test_a_timeout_begins_no_trial(self) -> None:
        study = ty.create_study()
        study.optimize(lambda trial: trial.suggest_float("x", 0, 1), timeout=0)
        self.assertEqual(study.trials, [])


if __name__ == "__main__":
    unittest.main()
