#!/usr/bin/env python3
"""Code that goes along with a job (`entrypoint.ship`), beside Ray's `runtime_env={"working_dir": ...}`: from asking to the first line.

    cargo build --release --workspace --bins
    python3 -m venv ray && ray/bin/pip install ray
    python3 benches/programs_ship.py --ray ray/bin/python

A folder of one file, of 1,000 files of 10 kB, of 200 files of 1 MB, whose bytes compress to about a half. Cold: nobody has seen it.
Warm: another submission of the same folder, unchanged. Timed is from the start of `coordinatorctl submit`, or in Ray from
`ray.init` on (importing ray, a second of its own, is left out), to the first line of the program or task, which looks whether all
files are there. Coordinator, worker and Ray's cluster run throughout. Both sides in turn; `--ray`: a Python with ray, without it
its columns are left out.

TRAINYARD_BIN: where the programs are, if not in target/release. Machines are noisy: medians, and all values beside them.
"""
import argparse, json, os, random, statistics, subprocess, sys, tempfile, time
from pathlib import Path

import cluster
from services import until

cluster.BIN = Path(os.environ.get("TRAINYARD_BIN", cluster.BIN)).resolve()
PATIENCE_S = 300
# Files, and bytes of each.
FOLDERS = {"1 file": (1, 100), "1,000 files, 10 MB": (1_000, 10_000), "200 files, 200 MB": (200, 1_000_000)}
HOST = """
import ray, sys
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, _node_ip_address="127.0.0.1")
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
"""
DRIVER = """
import os, ray, sys, time
begun = time.time()
ray.init(address=sys.argv[1], runtime_env={"working_dir": sys.argv[2]}, log_to_driver=False)

@ray.remote
def first():
    return time.time(), len(os.listdir("data"))

at, files = ray.get(first.remote())
print(at - begun, files)
"""
PROGRAM = """
import json, os, time
at = time.time()
with open(os.environ["TRACE"], "a") as file:
    file.write(json.dumps([at, len(os.listdir("data"))]) + "\\n")
print(json.dumps({"metrics": {"loss": 1}}))
"""


def fill(folder, files, size, seed):
    source = random.Random(seed)
    (folder / "data").mkdir(parents=True)
    for number in range(files):
        # Hexadecimal: four bits in each byte.
        (folder / "data" / f"{number}.txt").write_text(source.randbytes(size // 2).hex())
    (folder / "train.py").write_text(PROGRAM)


class Ours:
    name = "Trainyard"

    def __init__(self, machines, folder):
        self.machines, self.folder, self.jobs = machines, folder, 0

    def run(self, code):
        self.jobs += 1
        trace, path = self.folder / f"trace-{self.jobs}", self.folder / f"job-{self.jobs}.yaml"
        path.write_text(f"""name: ship
entrypoint: {{command: [{json.dumps(sys.executable)}, train.py], ship: {json.dumps(str(code))}, environment: {{TRACE: {json.dumps(str(trace))}}}}}
objectives: [{{metric: loss, mode: minimize}}]
hyperparameters: {{x: {{type: double, minval: 0, maxval: 1}}}}
searcher: {{name: random, max_trials: 1}}
""")
        begun = time.time()
        job = self.machines.ctl("submit", path)["job_id"]
        submitted = time.time() - begun
        told = until("the program", lambda: trace.read_text() if trace.exists() and trace.read_text().endswith("\n") else None, PATIENCE_S)
        at, files = json.loads(told)
        self.machines.ctl("wait", job)
        return at - begun, files, submitted


class Rays:
    name = "Ray"

    def __init__(self, python, folder):
        self.python = python
        # A token in the home directory is another cluster's.
        self.environment = {**os.environ, "RAY_AUTH_MODE": "disabled"}
        self.host = subprocess.Popen([python, "-c", HOST], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                     env=self.environment, stderr=open(folder / "ray.log", "w"))
        self.address = self.host.stdout.readline().strip()
        if not self.address:
            sys.exit((folder / "ray.log").read_text()[-3000:])

    def run(self, code):
        done = subprocess.run([self.python, "-c", DRIVER, self.address, code], text=True, capture_output=True, timeout=PATIENCE_S,
                              env=self.environment)
        if done.returncode:
            sys.exit(done.stderr[-3000:])
        took, files = done.stdout.split()[-2:]
        return float(took), int(files), 0.0

    def close(self):
        self.host.stdin.close()
        self.host.wait(60)


def main(options):
    took = {}
    with tempfile.TemporaryDirectory() as folder, \
            cluster.Cluster([1], store=["--data-dir", Path(folder) / "data", "--max-bundle-mib", 512]) as machines:
        folder = Path(folder)
        sides = [Ours(machines, folder)] + ([Rays(options.ray, folder)] if options.ray else [])
        for run in range(options.runs + 1):
            for what, (files, size) in FOLDERS.items():
                code = folder / f"code-{run}-{files}"
                fill(code, files, size, f"{run} {files}")
                for kind in ("cold", "warm"):
                    for side in sides:
                        seconds, seen, submitted = side.run(code)
                        if seen != files:
                            sys.exit(f"{side.name} has brought {seen} of {files} files")
                        print(f"{what}, {kind}: {side.name} {seconds:.2f} s (submit {submitted:.2f})", file=sys.stderr, flush=True)
                        # The first one warms up what is the same for all.
                        if run:
                            took.setdefault((what, kind, side.name), []).append(seconds)
        for side in sides[1:]:
            side.close()
    print("| a folder, seconds from asking to the first line | Trainyard, median (all) | Ray, median (all) | Ray's through Trainyard's, by run, median |\n|---|---|---|---|")
    for what in FOLDERS:
        for kind in ("cold", "warm"):
            ours, theirs = took[what, kind, "Trainyard"], took.get((what, kind, "Ray"))
            shown = lambda values: f"{statistics.median(values):.2f} ({', '.join(f'{v:.2f}' for v in values)})" if values else "-"
            ratio = f"{statistics.median(b / a for a, b in zip(ours, theirs)):.1f}" if theirs else "-"
            print(f"| {what}, {kind} | {shown(ours)} | {shown(theirs)} | {ratio} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--ray")
    parser.add_argument("--runs", type=int, default=5)
    main(parser.parse_args())
