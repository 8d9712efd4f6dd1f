"""Scripts as users of Ray Train and Ray Tune write them, run on this machine, and what is told where something is not here."""

from __future__ import annotations

import importlib.util
import os
import unittest
from typing import Any, List

from fake_worker import wait_for
from support import Case, control

import trainyard.ray as ray
from trainyard.ray import train, tune

# ASHA over a space within a space; a checkpoint of each iteration; what is no number.
ASHA = """
    import json, os, tempfile
    from trainyard.ray import tune
    from trainyard.ray.tune import Checkpoint

    def objective(config):
        done, kept = 0, tune.get_checkpoint()
        if kept:
            with kept.as_directory() as folder:
                done = json.load(open(os.path.join(folder, "state.json")))["done"]
        for step in range(done + 1, 100):
            with tempfile.TemporaryDirectory() as folder:
                with open(os.path.join(folder, "state.json"), "w") as file:
                    json.dump({"done": step}, file)
                tune.report(
                    {"score": config["model"]["height"] - 1 / (step * config["width"]), "host": "me"},
                    checkpoint=Checkpoint.from_directory(folder),
                )

    if __name__ == "__main__":
        tuner = tune.Tuner(
            objective,
            param_space={"width": tune.randint(1, 20), "model": {"height": tune.uniform(0, 1), "depth": 3}},
            tune_config=tune.TuneConfig(
                metric="score", mode="max", num_samples=6,
                scheduler=tune.ASHAScheduler(max_t=9, grace_period=1, reduction_factor=3),
            ),
            run_config=tune.RunConfig(name="asha"),
        )
        results = tuner.fit()
        best = results.get_best_result()
        print(len(results), results.num_errors, sorted(best.config), sorted(best.config["model"]))
        print(best.metrics["training_iteration"], sorted(best.metrics))
        print(max(r.metrics["training_iteration"] for r in results))
        print(json.load(open(os.path.join(best.checkpoint.path, "state.json"))))
    """
# A grid, some of whose points fail; without checkpoints, ended after three iterations.
GRID = """
    from trainyard.ray import tune

    def objective(config):
        if config["a"] == 2:
            raise RuntimeError("no two")
        while True:
            tune.report({"loss": config["a"] * config["b"]})

    if __name__ == "__main__":
        results = tune.Tuner(
            objective,
            param_space={"a": tune.grid_search([1, 2, 3]), "b": tune.grid_search([5, 7])},
            tune_config=tune.TuneConfig(metric="loss", mode="min"),
            run_config=tune.RunConfig(stop={"training_iteration": 3}),
        ).fit()
        print(len(results), results.num_errors, results.num_terminated)
        best = results.get_best_result("loss", "min")
        print(best.config, best.metrics, best.checkpoint)
        print([str(error).rsplit(": ", 1)[1] for error in results.errors])
    """
# A population, by another searcher's limits; each goes on from its own or another's checkpoint.
POPULATION = """
    import json, os, tempfile
    from trainyard.ray import tune
    from trainyard.ray.tune.schedulers import PopulationBasedTraining
    from trainyard.ray.tune.search import ConcurrencyLimiter
    from trainyard.ray.tune.search.optuna import OptunaSearch

    def objective(config):
        score, done = 0.0, 0
        kept = tune.get_checkpoint()
        if kept:
            with open(os.path.join(kept.path, "state.json")) as file:
                score, done = json.load(file)
        while True:
            done += 1
            score += config["rate"] * config["scale"]
            with tempfile.TemporaryDirectory() as folder:
                with open(os.path.join(folder, "state.json"), "w") as file:
                    json.dump([score, done], file)
                tune.report({"score": score}, checkpoint=tune.Checkpoint(folder))

    if __name__ == "__main__":
        results = tune.Tuner(
            objective,
            param_space={"rate": 0.5, "scale": 1},
            tune_config=tune.TuneConfig(
                num_samples=4,
                scheduler=PopulationBasedTraining(
                    metric="score", mode="max", perturbation_interval=2, synch=True,
                    hyperparam_mutations={"rate": tune.uniform(0.1, 1.0)}),
            ),
            run_config=tune.RunConfig(stop={"training_iteration": 6}),
        ).fit()
        print(len(results), [r.metrics["training_iteration"] for r in results], results.num_errors)
        print(len({r.config["rate"] for r in results}) > 1, results.get_best_result().config["scale"])
        results = tune.Tuner(
            objective,
            param_space={"rate": tune.uniform(0.1, 1.0), "scale": tune.choice([1, 2])},
            tune_config=tune.TuneConfig(
                num_samples=4, search_alg=ConcurrencyLimiter(OptunaSearch(metric="score", mode="max"), 2)),
            run_config=tune.RunConfig(stop={"training_iteration": 2}),
        ).fit()
        print(len(results), results.get_best_result().metrics["score"] > 0.5)
    """
TORCH = """
    import os, tempfile
    import torch
    import trainyard.ray as ray
    import trainyard.ray.train.torch
    from trainyard.ray.train import Checkpoint, CheckpointConfig, RunConfig, ScalingConfig
    from trainyard.ray.train.torch import TorchTrainer

    def train_func(config):
        model = ray.train.torch.prepare_model(torch.nn.Linear(1, 1))
        x = torch.arange(32.0)[:, None] / 32
        loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, 2 * x), batch_size=4, shuffle=True)
        loader = ray.train.torch.prepare_data_loader(loader)
        optimizer = torch.optim.SGD(model.parameters(), config["lr"])
        for epoch in range(config["epochs"]):
            for batch, target in loader:
                optimizer.zero_grad()
                loss = (model(batch) - target).square().mean()
                loss.backward()
                optimizer.step()
            with tempfile.TemporaryDirectory() as folder:
                checkpoint = None
                if ray.train.get_context().get_world_rank() == 0:
                    torch.save(model.state_dict(), os.path.join(folder, "model.pt"))
                    checkpoint = Checkpoint.from_directory(folder)
                ray.train.report({"loss": loss.item(), "ranks": ray.train.get_context().get_world_size()}, checkpoint=checkpoint)

    if __name__ == "__main__":
        result = TorchTrainer(
            train_func,
            train_loop_config={"lr": 0.1, "epochs": 3},
            scaling_config=ScalingConfig(num_workers=2),
            run_config=RunConfig(checkpoint_config=CheckpointConfig(
                num_to_keep=1, checkpoint_score_attribute="loss", checkpoint_score_order="min")),
        ).fit()
        print(result.metrics["training_iteration"], result.metrics["ranks"], result.error)
        print(os.listdir(result.checkpoint.path))
    """


@unittest.skipUnless(control(), "coordinatorctl is not found (TRAINYARD_CTL, PATH)")
class Scripts(Case):
    def outcome(self, text: str) -> List[str]:
        done = self.program(text, {"OMP_NUM_THREADS": "1"})
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.splitlines()

    def test_tune_with_asha_and_checkpoints(self) -> None:
        first, second, longest, state = self.outcome(ASHA)
        self.assertEqual(first, "6 0 ['model', 'width'] ['depth', 'height']")
        reached = int(second.split()[0])
        self.assertIn("'score', 'training_iteration'", second)
        self.assertEqual(longest, "9")
        self.assertEqual(state, str({"done": reached}))

    def test_tune_over_a_grid_of_which_some_fail(self) -> None:
        self.assertEqual(
            self.outcome(GRID),
            [
                "6 2 4",
                "{'a': 1, 'b': 5} {'loss': 5.0, 'training_iteration': 3} None",
                "['no two', 'no two']",
            ],
        )

    def test_tune_with_a_population_and_a_searcher(self) -> None:
        self.assertEqual(self.outcome(POPULATION), ["4 [6, 6, 6, 6] 0", "True 1", "4 True"])

    @unittest.skipUnless(importlib.util.find_spec("torch"), "PyTorch is not installed")
    def test_a_torch_trainer_with_two_ranks(self) -> None:
        self.assertEqual(self.outcome(TORCH), ["3 2.0 None", "['model.pt']"])


class Calls(Case):
    def test_a_report_ends_the_process_where_the_trial_is_to_stop(self) -> None:
        worker = self.worker()
        folder = self.folder / "model"
        folder.mkdir()
        (folder / "weights").write_text("w")
        checkpoint = train.Checkpoint.from_directory(folder)
        checkpoint.update_metadata({"epoch": 3})
        train.report({"loss": 1, "name": "x"}, checkpoint=checkpoint)
        wait_for("the report", lambda: worker.reports)
        self.assertEqual(worker.reports[0]["metrics"], {"loss": 1})
        self.assertEqual(
            sorted(os.listdir(worker.checkpoints[0]["taken"])), [".metadata.json", "weights"]
        )
        self.assertIn("name are no numbers", self.warnings[0])
        worker.push_stop("leave")
        with self.assertRaises(SystemExit) as caught:
            train.report({"loss": 1})
        self.assertEqual(caught.exception.code, 0)
        self.assertEqual(checkpoint.get_metadata(), {"epoch": 3})
        copy = checkpoint.to_directory(self.folder / "copy")
        self.assertEqual(sorted(os.listdir(copy)), [".metadata.json", "weights"])

    def test_the_context(self) -> None:
        self.worker(rank=1, world_size=2)
        os.environ.update(LOCAL_RANK="1", LOCAL_WORLD_SIZE="2", GROUP_RANK="0")
        context = train.get_context()
        self.assertEqual((context.get_world_rank(), context.get_world_size()), (1, 2))
        self.assertEqual((context.get_local_rank(), context.get_local_world_size()), (1, 2))
        self.assertEqual((context.get_node_rank(), context.get_trial_name()), (0, "job-1_3"))
        self.assertIsNone(train.get_checkpoint())

    def test_the_checkpoint_to_go_on_from(self) -> None:
        kept = self.folder / "kept"
        kept.mkdir()
        self.worker(restore={"path": str(kept), "epoch": 2, "step": 2})
        found = tune.get_checkpoint()
        assert found is not None
        self.assertEqual(os.fspath(found), str(kept))


class Words(Case):
    def test_what_is_not_there_says_so(self) -> None:
        def function(config: Any) -> None: ...

        def fit(stop: Any = None, **config: Any) -> Any:
            return tune.Tuner(
                outside,
                param_space=SPACE,
                tune_config=tune.TuneConfig(**config),
                run_config=tune.RunConfig(stop=stop),
            ).fit()

        after = {"training_iteration": 3}
        table: List[Any] = [
            (lambda: ray.remote, AttributeError, "trainyard.remote"),
            (lambda: ray.nonsense, AttributeError, "no attribute"),
            (lambda: train.lightning, AttributeError, "trainyard.lightning.Callback"),
            (lambda: tune.Trainable, AttributeError, "a function that calls report"),
            (lambda: tune.schedulers.pb2, AttributeError, "'name': 'pb2'"),
            (
                lambda: fit(
                    after, metric="a", mode="min", scheduler=tune.PopulationBasedTraining()
                ),
                ValueError,
                "param_space has ranges for ['x']",
            ),
            (
                lambda: fit(
                    after,
                    metric="a",
                    mode="min",
                    scheduler=tune.PopulationBasedTraining(hyperparam_mutations={"x": outside}),
                ),
                ValueError,
                "hyperparam_mutations['x'] is <function",
            ),
            (
                lambda: fit(metric="a", mode="min", scheduler="pbt"),
                ValueError,
                "expected {'training_iteration': n}",
            ),
            (lambda: tune.search.ConcurrencyLimiter("tpe", 2, True), ValueError, "batch is True"),
            (lambda: train.get_dataset_shard("train"), NotImplementedError, "its own part"),
            (lambda: train.get_context().get_storage(), NotImplementedError, "log_artifact"),
            (lambda: tune.run(outside), NotImplementedError, "Tuner"),
            (lambda: tune.sample_from(outside), NotImplementedError, "ranges"),
            (lambda: tune.with_parameters(outside, data=1), NotImplementedError, "load them"),
            (lambda: tune.with_resources(outside, {"gpu": 0.5}), ValueError, "gpu is 0.5"),
            (lambda: train.report({"a": "b"}), ValueError, "at least one number"),
            (lambda: train.report([1]), TypeError, "metrics is [1]"),  # type: ignore[arg-type]
            (lambda: train.report({"a": 1}, checkpoint="x"), TypeError, "from_directory"),  # type: ignore[arg-type]
            (fit, ValueError, "metric of the TuneConfig is None"),
            (lambda: fit(metric="loss"), ValueError, "mode is None"),
            (lambda: fit(metric="loss", mode="minimize"), ValueError, "mode is 'minimize'"),
            (
                lambda: tune.Tuner(
                    outside,
                    param_space={"a": tune.grid_search([1]), "b": tune.uniform(0, 1)},
                    tune_config=tune.TuneConfig(metric="loss", mode="min"),
                ).fit(),
                ValueError,
                "beside other ranges",
            ),
            (
                lambda: tune.Tuner(
                    outside,
                    tune_config=tune.TuneConfig(metric="loss", mode="min"),
                    run_config=tune.RunConfig(stop={"loss": 0.1}),
                ).fit(),
                ValueError,
                "expected training_iteration alone",
            ),
        ]
        for call, kind, told in table:
            with self.assertRaises(kind) as caught:
                call()
            self.assertIn(told, str(caught.exception))

    def test_a_run_config_is_a_spec(self) -> None:
        config = train.RunConfig(
            storage_path="s3://b/x",
            failure_config=train.FailureConfig(max_failures=-1),
            checkpoint_config=train.CheckpointConfig(
                num_to_keep=2, checkpoint_score_attribute="loss"
            ),
        )
        self.assertEqual(
            config.fields(),
            {"max_restarts": 1000, "checkpoint_storage": {"keep_best": 2, "url": "s3://b/x"}},
        )
        scaling = train.ScalingConfig(num_workers=3, use_gpu=True, resources_per_worker={"CPU": 4})
        self.assertEqual(scaling.resources(), {"slots_per_trial": 3, "device": "cuda"})
        self.assertIn("resources_per_worker: CPU have no effect", self.warnings[0])


SPACE = {"x": tune.uniform(0, 1)}


def outside(config: Any) -> None:
    tune.report({"loss": config["x"]})


if __name__ == "__main__":
    unittest.main()
