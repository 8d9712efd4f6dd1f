"""A function as the program of a job: its search on this machine, or on the cluster of TRAINYARD_COORDINATOR.

    python3 function.py
"""

import os

import trainyard as ty


@ty.remote
def train(config):
    x = 5.0
    for epoch in range(1, 28):
        x -= config["rate"] * 2 * x - config["momentum"] * 0.1
        ty.report({"loss": x * x}, epoch=epoch)
        if ty.should_stop():
            break


if __name__ == "__main__":
    job = train.search(
        {"rate": ty.space.loguniform(1e-3, 1), "momentum": [0, 1]},
        objectives="loss",
        n_trials=9,
        scheduler={"name": "asha", "variant": "stopping", "max_resource": 27},
        local="TRAINYARD_COORDINATOR" not in os.environ,
    )
    job.wait()
    print(job.best()["value"], job.best()["trial"]["params"])
