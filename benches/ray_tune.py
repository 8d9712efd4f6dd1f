#!/usr/bin/env python3
"""Overhead of a trial beside Ray Tune, and durable results a second; prints tables.

    cargo build --release --workspace --bins && cargo build --release -p trainyard-worker --example report_speed
    python3 benches/ray_tune.py [trials] [results] [--sizes 1000 10000] [--fresh 40] [--profile release]

trials   no-op trials: submitted, placed, started on a worker process, report once and complete; two at a time on
         both sides. Then 1,000 trials of ten results each. Ray Tune runs a Python function and, being faster so,
         keeps its two processes from one trial to the next (reuse_actors=True); `--fresh` trials are run as it does
         by default, each in a new process. Trainyard starts a new process (a shell that prints) for every trial.
         Wall time is from handing the search over to having its result, processor time that of all processes of
         either system meanwhile; starting them is left out.
         Memory is what the process that keeps the search (Ray's driver, Trainyard's coordinator) has grown by from
         the smallest to the largest of the sizes.
results  durable results a second, by worker/examples/report_speed.rs: it speaks to a coordinator as a worker process
         does, 256 results a message. Each acknowledgement stands for a synced commit (redb, immediate durability).

Ray comes from PyPI into a virtual environment in the user's cache folder. Without arguments: both.
"""
import argparse, json, os, shutil, subprocess, sys, tempfile, time
from pathlib import Path

import cluster

RAY = "ray[tune]==2.60.0"
SLOTS = 2
FLOODS = [("one message at a time", 1), ("8 messages under way", 8), ("64 messages under way", 64)]


def ray_python():
    """The virtual environment's interpreter; made on the first run."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    folder = cache / "trainyard-bench" / RAY.replace("[tune]==", "-")
    if not (folder / "complete").exists():
        print(f"installing {RAY} into {folder}", file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([folder / "bin/pip", "install", "--quiet", RAY], check=True)
        (folder / "complete").touch()
    return folder / "bin/python"


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


def ray_side(trials, results, reuse):
    """Runs within the virtual environment, in a process of its own; prints one JSON object."""
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    import logging

    import ray
    from ray import tune

    def noop(config):
        for _ in range(results):
            tune.report({"loss": config["x"]})

    with tempfile.TemporaryDirectory() as folder:
        ray.init(num_cpus=SLOTS, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
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


def ray_tune(trials, results=1, reuse=True):
    command = [ray_python(), __file__, "--ray", trials, results, int(reuse)]
    begin = time.monotonic()
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    if done.returncode:
        print(f"Ray Tune ended with {done.returncode} after {time.monotonic() - begin:.0f} s of {trials} trials", file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def trainyard(trials, results=1):
    with cluster.Cluster([SLOTS]) as running:
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


def compare(what, trials, ray, ours):
    cells = [what]
    for measure in ("seconds", "cpu"):
        theirs, ratio = (f"{ray[measure] * 1000 / trials:.1f}", f"{ray[measure] / ours[measure]:.1f}") if ray else ("died", "")
        cells += [theirs, f"{ours[measure] * 1000 / trials:.2f}", ratio]
    print("|", " | ".join(cells), "|", flush=True)


def measure_trials(sizes, fresh):
    print("\n| ms a trial | Ray Tune, wall | Trainyard, wall | ratio | Ray Tune, processor | Trainyard, processor | ratio |\n"
          "|---|---|---|---|---|---|---|")
    pairs = []
    for size in sizes:
        pairs.append((ray_tune(size), trainyard(size)))
        compare(f"{size:,} no-op trials", size, *pairs[-1])
    compare("1,000 trials of 10 results", 1000, ray_tune(1000, 10), trainyard(1000, 10))
    if fresh:
        compare(f"{fresh} no-op trials, Ray with a new process for each", fresh, ray_tune(fresh, reuse=False), trainyard(fresh))
    if len(sizes) > 1:
        (ray, ours), (ray_more, ours_more) = pairs[0], pairs[-1]

        def grown(less, more):
            return f"{(more['rss_kib'] - less['rss_kib']) / (sizes[-1] - sizes[0]):.1f}" if less and more else "died"

        print("\n| memory a finished trial, KiB | Ray Tune's driver | Trainyard's coordinator |\n|---|---|---|\n"
              f"| from {sizes[0]:,} to {sizes[-1]:,} trials | {grown(ray, ray_more)} | {grown(ours, ours_more)} |", flush=True)


def measure_results(results=500_000):
    print("\n| durable results, 256 a message, 16 trials | results/s | acknowledged after, p50 ms | p99 ms |\n|---|---|---|---|")
    for what, window in FLOODS:
        with cluster.Cluster([]) as running:
            command = [cluster.BIN / "examples/report_speed", "--coordinator", running.address,
                       "--window", str(window), "--results", str(results)]
            done = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
            print(f"| {what} | {done['results_per_s']:,.0f} | {done['p50_ms']:.1f} | {done['p99_ms']:.1f} |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--ray"]:
        ray_side(int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "1")
        sys.exit()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", help="trials, results; default: both")
    parser.add_argument("--sizes", nargs="+", type=int, default=[1000, 10_000])
    parser.add_argument("--fresh", type=int, default=40)
    parser.add_argument("--profile", default="release")
    given = parser.parse_args()
    if unknown := set(given.what) - {"trials", "results"}:
        sys.exit(f"unknown: {', '.join(unknown)}; known: trials, results")
    cluster.BIN = cluster.BIN.parent / given.profile
    if not given.what or "results" in given.what:
        measure_results()
    if not given.what or "trials" in given.what:
        measure_trials(given.sizes, given.fresh)
