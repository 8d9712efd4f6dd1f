"""A parabola's minimum, sought step by step; how large the steps are is found by ASHA, from checkpoint to checkpoint."""

import json
import os
import tempfile

from ray import tune
from ray.tune.schedulers import ASHAScheduler


def descend(config):
    x, done = 5.0, 0
    kept = tune.get_checkpoint()
    if kept is not None:
        with kept.as_directory() as folder, open(os.path.join(folder, "state.json")) as file:
            x, done = json.load(file)
    for step in range(done + 1, 28):
        x -= config["rate"] * 2 * x
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, "state.json"), "w") as file:
                json.dump([x, step], file)
            tune.report({"loss": x * x}, checkpoint=tune.Checkpoint.from_directory(folder))


if __name__ == "__main__":
    tuner = tune.Tuner(
        descend,
        param_space={"rate": tune.loguniform(1e-3, 1)},
        tune_config=tune.TuneConfig(
            metric="loss", mode="min", num_samples=9, scheduler=ASHAScheduler(max_t=27)
        ),
    )
    best = tuner.fit().get_best_result()
    print(best.metrics["loss"], best.config)
