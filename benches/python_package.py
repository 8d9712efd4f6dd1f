"""The Python package: reports a second, and studies beside Optuna.

    TRAINYARD_CTL=target/release/coordinatorctl PYTHONPATH=sdk/python/src python3 benches/python_package.py

Reports go to the strict worker of the package's tests, in Python (what is measured is then the program's side and the
socket), and to a real worker, as one trial of a job that `coordinatorctl run` runs. Without Optuna its rows are left out.
"""

import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "sdk/python/tests"))
from fake_worker import FakeWorker

import trainyard as ty

try:
    import optuna
except ImportError:
    optuna = None

TRIALS, SEEDS = 50, 5

REPORTS = """
import time, trainyard as ty
ty.info()
def each(what, n, call):
    begun = time.perf_counter()
    for i in range(n):
        call(i)
    print(f"{what}: {(time.perf_counter() - begun) / n * 1e6:.1f} us each")
def report(i):
    ty.report({"loss": 0.1, "accuracy": 0.2}, epoch=i)
def report_and_ask(i):
    report(20000 + i)
    ty.should_stop()
each("report", 20000, report)
each("report, then should_stop", 2000, report_and_ask)
each("should_stop with nothing new", 50000, lambda i: ty.should_stop())
"""


def branin(trial):
    x, y = trial.suggest_float("x", -5, 10), trial.suggest_float("y", 0, 15)
    bowl = (y - 5.1 / (4 * math.pi**2) * x * x + 5 / math.pi * x - 6) ** 2
    return bowl + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10


A = [[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]]
P = [
    [1312, 1696, 5569, 124, 8283, 5886],
    [2329, 4135, 8307, 3736, 1004, 9991],
    [2348, 1451, 3522, 2883, 3047, 6650],
    [4047, 8828, 8732, 5743, 1091, 381],
]


def hartmann6(trial):
    x = [trial.suggest_float(f"x{i}", 0, 1) for i in range(6)]
    weights = (1, 1.2, 3, 3.2)
    squares = (sum(a * (x[j] - p[j] * 1e-4) ** 2 for j, a in enumerate(row)) for row, p in zip(A, P))
    return -sum(w * math.exp(-s) for w, s in zip(weights, squares))


def to_a_real_worker():
    with tempfile.TemporaryDirectory() as folder:
        job = ty.run(
            {
                "name": "reports",
                "entrypoint": {
                    "command": [sys.executable, "-c", REPORTS],
                    "environment": {"PYTHONPATH": str(Path(ty.__file__).parent.parent)},
                },
                "objectives": [{"metric": "loss", "mode": "minimize"}],
                "searcher": {"max_trials": 1},
            },
            data_dir=folder,
        )
        for line in job.logs():
            if line["text"].endswith("us each"):
                print("real worker,", line["text"])


def children():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def study(name, objective, least, make):
    regrets, clock, processor = [], time.time(), time.process_time() + children()
    for seed in range(SEEDS):
        one = make(seed)
        one.optimize(objective, n_trials=TRIALS)
        regrets.append(one.best_value - least)
    n = TRIALS * SEEDS
    clock, processor = time.time() - clock, time.process_time() + children() - processor
    print(
        f"{name}: median regret {statistics.median(regrets):.2g}, "
        f"{clock / n * 1e3:.1f} ms a trial by the clock, {processor / n * 1e3:.1f} of processor time"
    )


def main():
    with FakeWorker() as worker:
        subprocess.run([sys.executable, "-c", REPORTS], env={**os.environ, **worker.environment()}, check=True)
    to_a_real_worker()
    for name, objective, least in (("branin", branin, 0.397887), ("hartmann6", hartmann6, -3.32237)):
        study(f"{name}, trainyard", objective, least, lambda seed: ty.create_study(seed=seed))
        if optuna is not None:
            optuna.logging.set_verbosity(optuna.logging.ERROR)
            tpe = optuna.samplers.TPESampler
            study(f"{name}, optuna", objective, least, lambda seed: optuna.create_study(sampler=tpe(seed=seed)))


if __name__ == "__main__":
    main()
