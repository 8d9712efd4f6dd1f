"""Other people's waits while a search computes: `list`, and another job's trials, beside a Gaussian process of many results.

A search under `gp` begins with so many known results (`prior_results`), so that each of its suggestions looks at all of them;
beside it a random search runs trials of milliseconds. Told are the times of `list` (a process each) and how many trials of the
other job end in a second, first without the slow search and then beside it; and the same for each folder of programs
that is given.

    python3 benches/slow_search.py --bin old=FOLDER --bin new=target/release [--results 2000] [--seconds 60]

`--results 0` takes six ascending numbers instead, 210 of a million configurations, without known results.
"""
import argparse, json, statistics, subprocess, tempfile, time
from pathlib import Path

from services import processes, until

ECHO = ["sh", "-c", "echo '{\"metrics\": {\"loss\": 1}}'"]


def spec(name, searcher, dimensions):
    space = {f"x{at}": {"type": "double", "minval": 0, "maxval": 1} for at in range(dimensions)}
    return {"name": name, "entrypoint": {"command": ECHO}, "hyperparameters": space, "searcher": searcher,
            "objectives": [{"metric": "loss", "mode": "minimize"}]}


def slow(results, dimensions=6):
    """Points of a lattice, with a cost that has a minimum within."""
    def known(number):
        params = {f"x{at}": (number * (2 * at + 3) * 0.6180339887498949 / (at + 1)) % 1 for at in range(dimensions)}
        return {"params": params, "value": sum((x - 0.4) ** 2 for x in params.values())}
    searcher = {"name": "gp", "max_trials": 100_000, "gp_max_points": max(2, min(results, 2_000)), "max_concurrent_trials": 4,
                "prior_results": [known(number) for number in range(results)]}
    return spec("slow", searcher, dimensions)


def ascending(count=6):
    """Numbers in ascending order: 210 of a million configurations."""
    document = spec("slow", {"name": "gp", "max_trials": 210, "max_concurrent_trials": 4}, 0)
    return document | {"hyperparameters": {f"x{at}": {"type": "int", "minval": 0, "maxval": 9} for at in range(count)},
                       "constraints": [f"x{at} < x{at + 1}" for at in range(count - 1)]}


def quick():
    return spec("quick", {"name": "random", "max_trials": 1_000_000, "max_concurrent_trials": 2}, 1)


class Cluster:
    def __init__(self, folder, programs, address):
        self.folder, self.ctl = folder, [programs / "coordinatorctl", "--coordinator", address, "--output", "json"]

    def ask(self, *words):
        return json.loads(subprocess.run([*map(str, self.ctl), *map(str, words)], check=True, capture_output=True, timeout=600).stdout)

    def submit(self, name, document):
        path = self.folder / f"{name}.json"
        path.write_text(json.dumps(document))
        return self.ask("submit", path)["job_id"]

    def jobs(self):
        return {job["job_id"]: job for job in self.ask("list")["jobs"]}

    def watch(self, job, seconds):
        """Times of `list`, and trials of the job that end in a second."""
        first, begun, times = self.jobs()[job]["trials_completed"], time.monotonic(), []
        while time.monotonic() - begun < seconds:
            asked = time.monotonic()
            jobs = self.jobs()
            times.append(time.monotonic() - asked)
            time.sleep(0.05)
        return times, (jobs[job]["trials_completed"] - first) / (time.monotonic() - begun), jobs


def measure(name, programs, document, seconds):
    with tempfile.TemporaryDirectory() as folder:
        folder, port = Path(folder), None
        coordinator = [programs / "coordinator", "--listen", "127.0.0.1:0", "--data-dir", folder / "data",
                       "--port-file", folder / "port"]
        with processes(folder, [coordinator]):
            port = folder / "port"
            address = until("the coordinator", lambda: port.read_text().strip() if port.exists() else None)
            worker = [programs / "worker", "--coordinator", f"http://{address}", "--name", "w", "--slots", "6", "--threads-per-slot", "1",
                      "--programs", "allow"]
            (folder / "w").mkdir()
            with processes(folder / "w", [worker]):
                cluster = Cluster(folder, programs, f"http://{address}")
                other = cluster.submit("quick", quick())
                until("trials", lambda: cluster.jobs()[other]["trials_completed"] > 20)
                for when in ("alone", "beside"):
                    if when == "beside":
                        searches = cluster.submit("slow", document)
                        time.sleep(2)
                    times, rate, jobs = cluster.watch(other, seconds)
                    begun = sum(jobs[searches][f"trials_{state}"] for state in ("running", "completed")) if when == "beside" else 0
                    times.sort()
                    print(f"{name:>5} {when:>7}: list {statistics.median(times) * 1e3:7.0f} ms, nine of ten "
                          f"{times[int(len(times) * 0.9)] * 1e3:7.0f}, most {times[-1] * 1e3:7.0f}; {len(times)} answers; "
                          f"{rate:6.1f} trials/s of the other job; {begun} trials of the slow search", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", action="append", required=True, metavar="NAME=FOLDER")
    parser.add_argument("--results", type=int, default=2_000)
    parser.add_argument("--seconds", type=float, default=60)
    asked = parser.parse_args()
    for given in asked.bin:
        name, _, folder = given.partition("=")
        document = ascending() if asked.results == 0 else slow(asked.results)
        measure(name, Path(folder).absolute(), document, asked.seconds)


if __name__ == "__main__":
    main()
