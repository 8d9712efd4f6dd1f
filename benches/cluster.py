#!/usr/bin/env python3
"""Times what a person waits for, on real processes of the release build, and prints a table.

    cargo build --release --workspace --bins
    python3 benches/cluster.py [digits] [fashion] [first-step] [noop] [ranks]

digits      `coordinatorctl run examples/digits.yaml`, wall seconds and test accuracy
fashion     `coordinatorctl run examples/fashion-mnist-tuner.yaml`, wall seconds and best accuracy
first-step  from `submit` to the first optimizer step, on a coordinator and a worker process that wait
noop        1,000 trials of a program that only reports, on a worker process of two slots: wall time per trial,
            beside 1,000 plain starts of a shell in the same run
ranks       one trial on two ranks of one thread each against one rank of one thread, same machine

Without arguments: all but fashion. Machines are noisy: each figure is the median of its runs.
"""
import json, os, statistics, subprocess, sys, tempfile, time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"


def ctl(folder, address, *arguments):
    """Runs coordinatorctl and returns its JSON."""
    environment = dict(os.environ, TRAINYARD_COORDINATOR=address)
    command = [BIN / "coordinatorctl", *map(str, arguments), "--output", "json"]
    done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


class Cluster:
    """A coordinator and workers in their own processes, until the end of the block. `store`: the coordinator's
    arguments that say where it keeps what it must not lose, instead of a folder of its own. `prefetch`: trials that each
    worker takes ahead."""

    def __init__(self, slots, store=None, environment=None, prefetch=0):
        self.slots, self.store, self.prefetch, self.processes = slots, store, prefetch, []
        self.environment = dict(os.environ, **environment or {})

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name)
        store = self.store or ["--data-dir", path / "data"]
        self.start("coordinator", "--listen", "127.0.0.1:0", *store, "--port-file", path / "port")
        while not (path / "port").exists() or not (path / "port").read_text().strip():
            time.sleep(0.01)
        self.address = "http://" + (path / "port").read_text().strip()
        for slots in self.slots:
            self.start("worker", "--coordinator", self.address, "--slots", slots, "--threads-per-slot", 1, "--prefetch", self.prefetch, "--programs", "allow")
        while len(self.ctl("worker", "list")["workers"]) < len(self.slots):
            time.sleep(0.05)
        return self

    def start(self, name, *arguments):
        log = open(Path(self.folder.name) / f"{name}-{len(self.processes)}.log", "w")
        self.processes.append(subprocess.Popen([BIN / name, *map(str, arguments)], stdout=log, stderr=log,
                                               env=self.environment))

    def ctl(self, *arguments):
        return ctl(self.folder.name, self.address, *arguments)

    def run(self, spec, *arguments):
        """Submits, waits, and returns (wall seconds from submit to end, what describe says)."""
        job = self.ctl("submit", spec, *arguments)["job_id"]
        self.ctl("wait", job)
        described = self.ctl("describe", job)["job"]
        return (described["ended_ms"] - described["submitted_ms"]) / 1000, job, described

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            process.wait(20)
        self.folder.cleanup()


def run_example(name):
    with tempfile.TemporaryDirectory() as folder:
        begin = time.monotonic()
        answer = ctl(folder, "", "run", ROOT / "examples" / name)
        return time.monotonic() - begin, answer["job"]


def digits():
    seconds, job = run_example("digits.yaml")
    return [("`run examples/digits.yaml`, wall s", seconds), ("its winner's test accuracy", job["test_metrics"]["test_accuracy"])]


def fashion():
    seconds, job = run_example("fashion-mnist-tuner.yaml")
    return [("`run examples/fashion-mnist-tuner.yaml`, wall s", seconds), ("its best validation accuracy", job["best_value"]),
            ("its winner's test accuracy", job["test_metrics"]["test_accuracy"])]


def first_step(runs=5):
    times = []
    with Cluster([1]) as cluster:
        for _ in range(runs):
            _, job, described = cluster.run(ROOT / "examples/digits.yaml", "--set", "searcher.max_trials=1",
                                            "--set", "training.epochs=1", "--set", "training.report_every_steps=1")
            points = cluster.ctl("trial", "describe", job, 0)["points"]
            times.append(points[0]["time_ms"] - described["submitted_ms"])
    return [("submit to first step, ms", statistics.median(times))]


def noop(trials=1000, runs=3):
    walls, plain = [], []
    with Cluster([2]) as cluster:
        spec = Path(cluster.folder.name) / "noop.yaml"
        spec.write_text(f"""name: noop
entrypoint: {{command: ["sh", "-c", 'echo "{{\\"metrics\\": {{\\"loss\\": 1}}}}"']}}
objectives: [{{metric: loss, mode: minimize}}]
hyperparameters: {{x: {{type: double, minval: 0, maxval: 1}}}}
searcher: {{name: random, max_trials: {trials}}}
""")
        for _ in range(runs):
            begin = time.monotonic()
            for _ in range(trials):
                subprocess.run(["sh", "-c", "echo 1"], stdout=subprocess.DEVNULL, check=True)
            plain.append((time.monotonic() - begin) * 1000 / trials)
            walls.append(cluster.run(spec)[0] * 1000 / trials)
    return [("no-op trial on 2 slots, wall ms a trial", statistics.median(walls)),
            ("starting the same program from Python, ms", statistics.median(plain))]


def ranks(runs=3):
    one, two = [], []
    with Cluster([1, 1]) as cluster:
        for _ in range(runs):
            for slots, times in ((1, one), (2, two)):
                _, job, _ = cluster.run(ROOT / "benches/ranks.yaml", "--set", f"resources.slots_per_trial={slots}")
                points = cluster.ctl("trial", "describe", job, 0)["points"]
                times.append((points[-1]["time_ms"] - points[0]["time_ms"]) / (points[-1]["step"] - points[0]["step"]))
    one, two = statistics.median(one), statistics.median(two)
    return [("one rank of one thread, ms a step", one), ("two ranks of one thread, ms a step", two), ("speed-up (2 is ideal)", one / two)]


ALL = {"digits": digits, "fashion": fashion, "first-step": first_step, "noop": noop, "ranks": ranks}

if __name__ == "__main__":
    names = sys.argv[1:] or [name for name in ALL if name != "fashion"]
    if unknown := [name for name in names if name not in ALL]:
        sys.exit(f"unknown: {', '.join(unknown)}; known: {', '.join(ALL)}")
    print("| what | measured |\n|---|---|")
    for name in names:
        for what, value in ALL[name]():
            print(f"| {what} | {value:.4g} |", flush=True)
