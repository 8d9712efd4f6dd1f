#!/usr/bin/env python3
"""People's own programs, in PyTorch: what a death, a checkpoint and an attempt cost, beside other ways to run them.

    cargo build --release --workspace --bins
    python3 -m venv torch && torch/bin/pip install torch boto3 ./sdk/python
    python3 benches/programs.py recover --python torch/bin/python --ray ray/bin/python
    python3 benches/programs.py checkpoint --python torch/bin/python
    python3 benches/programs.py attempt --python torch/bin/python

recover     SIGKILL to one of two ranks, until the next epoch is complete: Trainyard, `torchrun --max-restarts`, Ray Train with
            FailureConfig(max_failures), the same training, in turn. `--ray`: a Python with ray[train] and torch; without it its
            row is left out
checkpoint  1 GB to an S3 server on this machine: for how long the program waits beyond its own writing, and MB/s of the upload;
            boto3's upload_file to the same server in turn
attempt     a Python program that reports once: the attempt's time beyond that of the same process started by hand

TRAINYARD_BIN: where the programs are, if not in target/release. Machines are noisy: medians, and all values beside them.
"""
import argparse, json, os, signal, statistics, subprocess, sys, tempfile, time
from pathlib import Path

import cluster
from services import BUCKET, KEY, SECRET, s3, until

HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parent / "sdk/python/src"
cluster.BIN = Path(os.environ.get("TRAINYARD_BIN", cluster.BIN)).resolve()
PATIENCE_S = 300


class Machines(cluster.Cluster):
    """A cluster whose workers run people's programs."""

    def start(self, name, *arguments):
        if name == "worker" and "--programs" not in arguments:
            known = subprocess.run([cluster.BIN / "worker", "--help"], capture_output=True, text=True).stdout
            arguments += ("--programs", "allow") if "--programs" in known else ()
        super().start(name, *arguments)


def spec(name, command, environment, more=""):
    environment = {"PYTHONPATH": str(PACKAGE), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **environment}
    return f"""name: {name}
entrypoint: {{command: {json.dumps([str(word) for word in command])}, environment: {json.dumps(environment)}}}
objectives: [{{metric: loss, mode: minimize}}]
hyperparameters: {{x: {{type: double, minval: 0, maxval: 1}}}}
{more}
"""


def lines(trace):
    text = Path(trace).read_text() if Path(trace).exists() else ""
    return [line.split(" ", 3) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def recovery(trace):
    """Kills rank 1 within epoch 3; gives the seconds until the ranks go on, until the epoch that follows is complete, and until the
    first new process had started (before it imported anything)."""
    done = lambda what: [line for line in lines(trace) if line[3].strip() == what]
    victim = until("epoch 2 on both ranks", lambda: len(done("epoch 2")) == 2 and [line for line in done("epoch 2") if line[2] == "1"][0], PATIENCE_S)
    time.sleep(0.5)
    before = len(lines(trace))
    killed = time.time()
    os.kill(int(victim[1]), signal.SIGKILL)

    def after(kind):
        new = [line for line in lines(trace)[before:] if line[3].startswith(kind) and float(line[0]) > killed and line[2] == "0"]
        # An epoch that the survivor had in hand when it learnt of the death is none of the new attempt's.
        begun = [line for line in lines(trace)[before:] if line[3].startswith("from")]
        new = [line for line in new if begun and line[1] in {each[1] for each in begun}]
        return float(new[0][0]) - killed if new else None

    gone_on = until("the next attempt", lambda: after("from"), PATIENCE_S)
    complete = until("its first epoch", lambda: after("epoch"), PATIENCE_S)
    # Ray's own program is what starts there.
    started = [float(line[0]) - killed for line in lines(trace)[before:] if line[3].startswith("start")]
    return gone_on, complete, min(started, default=float("nan"))


def kill_group(process):
    try:
        os.killpg(process, signal.SIGKILL)
    except ProcessLookupError:
        pass


def recover(options):
    took = {}
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "EPOCHS": "6"}
    with tempfile.TemporaryDirectory() as folder, Machines([2]) as machines:
        folder = Path(folder)
        ray = None
        if options.ray:
            ray = subprocess.Popen([options.ray, HERE / "programs_train.py", "ray", folder / "ray"], env=environment, text=True,
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=open(folder / "ray.log", "w"))
            while (line := ray.stdout.readline()).strip() != "ready":
                if not line:
                    sys.exit((folder / "ray.log").read_text()[-3000:])

        def ours(trace, backoff):
            path = folder / f"{trace.name}.yaml"
            command = [options.python, HERE / "programs_train.py", "trainyard"]
            path.write_text(spec("recover", command, {"TRACE": str(trace), "EPOCHS": "6"},
                                 f"searcher: {{max_trials: 1, name: random}}\nresources: {{slots_per_trial: 2}}\n{backoff}"))
            job = machines.ctl("submit", path)["job_id"]
            result = recovery(trace)
            machines.ctl("wait", job)
            return result

        def torchrun(trace):
            kept = folder / f"{trace.name}-kept"
            kept.mkdir()
            command = [options.python, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts", "3",
                       HERE / "programs_train.py", "torchrun"]
            with open(folder / "torchrun.log", "a") as log:
                process = subprocess.Popen(command, env={**environment, "TRACE": str(trace), "KEPT": str(kept)}, stdout=log, stderr=log,
                                           start_new_session=True)
            try:
                result = recovery(trace)
                process.wait(PATIENCE_S)
            finally:
                for line in lines(trace):
                    # Its ranks are in groups of their own.
                    kill_group(int(line[1]))
                kill_group(process.pid)
            return result

        def rays(trace):
            ray.stdin.write(f"{trace}\n")
            ray.stdin.flush()
            result = recovery(trace)
            while ray.stdout.readline().strip() != "done":
                pass
            return result

        sides = {"Trainyard": lambda trace: ours(trace, ""), "torchrun --max-restarts": torchrun}
        if ray:
            sides["Ray Train v2, max_failures"] = rays
        for run in range(options.runs):
            for name, side in sides.items():
                try:
                    result = side(folder / f"trace-{run}-{len(name)}")
                except SystemExit as error:
                    # It has not come back; that counts as the longest.
                    print(f"{name}: {error}", file=sys.stderr)
                    result = (float("inf"),) * 3
                took.setdefault(name, []).append(result)
                print(f"{name}: started after {took[name][-1][2]:.1f} s, on after {took[name][-1][0]:.1f} s, next epoch after {took[name][-1][1]:.1f} s", file=sys.stderr, flush=True)
        if ray:
            ray.stdin.close()
            ray.wait(60)
    print("| SIGKILL of a rank, seconds (median) | until a new process starts | until the ranks go on | until the next epoch is complete | all | "
          "through Trainyard's, by run, median |\n|---|---|---|---|---|---|")
    for name, values in took.items():
        ratio = statistics.median(theirs[1] / mine[1] for theirs, mine in zip(values, took["Trainyard"]))
        every = ", ".join(f"{value[1]:.1f}" for value in values)
        started = statistics.median(v[2] for v in values)
        started = "-" if started != started else f"{started:.1f}"
        print(f"| {name} | {started} | {statistics.median(v[0] for v in values):.1f} | {statistics.median(v[1] for v in values):.1f} | {every} | {ratio:.2f} |")


BOTO = """
import boto3, sys, time, os
client = boto3.client("s3", endpoint_url=sys.argv[1], aws_access_key_id=sys.argv[2], aws_secret_access_key=sys.argv[3], region_name="us-east-1")
begun = time.time()
for name in sys.argv[5:]:
    client.upload_file(name, sys.argv[4], "boto/" + os.path.basename(name))
print(time.time() - begun)
for name in sys.argv[5:]:
    client.delete_object(Bucket=sys.argv[4], Key="boto/" + os.path.basename(name))
"""


def checkpoint(options):
    size, rows = options.megabytes * 1000 * 1000 // 4 * 4, []
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        with s3(folder, volumes=80) as (url, environment), Machines([1], store=["--data-dir", folder / "data", "--checkpoint-url", url],
                                                        environment=environment) as machines:
            trace, plain = folder / "trace", folder / "plain"
            plain.mkdir()
            path = folder / "spec.yaml"
            command = [options.python, HERE / "programs_checkpoint.py"]
            path.write_text(spec("checkpoint", command, {"TRACE": str(trace), "PLAIN": str(plain), "SIZE": str(size), "TIMES": str(options.runs)},
                                 "searcher: {max_trials: 1, name: random}\ncheckpoint_storage: {keep_last: 1, keep_best: 0}"))
            job = machines.ctl("submit", path)["job_id"]
            for run in range(options.runs):
                def noted(what):
                    text = trace.read_text() if trace.exists() else ""
                    found = [one for one in map(json.loads, text.splitlines()) if one["what"] == what]
                    return found[run] if len(found) > run else None

                saved = until("a checkpoint", lambda: noted("checkpoint"), PATIENCE_S)
                logged = lambda: subprocess.run([cluster.BIN / "coordinatorctl", "logs", job], text=True, capture_output=True,
                                                env={**os.environ, "TRAINYARD_COORDINATOR": machines.address}).stdout.count("checkpoint saved:")
                until("its upload", lambda: logged() > run, PATIENCE_S)
                stored = time.time() - saved["ended"]
                boto = float(subprocess.run([options.python, "-c", BOTO, environment["AWS_ENDPOINT"], KEY, SECRET, BUCKET,
                                             *sorted(map(str, plain.iterdir()))], check=True, text=True, capture_output=True).stdout)
                rows.append((noted("plain")["seconds"], saved["own"], saved["stall"], size / stored / 1e6, size / boto / 1e6))
                print(["{:.3f}".format(v) for v in rows[-1]], file=sys.stderr, flush=True)
                Path(f"{trace}.go-{run}").touch()
            machines.ctl("wait", job)
    print(f"| a checkpoint of {options.megabytes} MB, median of {options.runs} | |\n|---|---|")
    names = ["its writing without Trainyard, s", "the same writing within `checkpoint_dir`, s", "what the program waits beyond that, s",
             "upload beside training, MB/s", "boto3 `upload_file` of the same files, MB/s"]
    for name, values in zip(names, zip(*rows)):
        print(f"| {name} | {statistics.median(values):.3g} ({', '.join(f'{v:.3g}' for v in values)}) |")
    print(f"| upload through boto3's, by run, median | {statistics.median(row[3] / row[4] for row in rows):.2f} |")


REPORT = "import trainyard as ty\nty.report({'loss': 1.0}, epoch=1)\n"


def attempt(options):
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE)}
    rows = []
    with Machines([1]) as machines:
        path = Path(machines.folder.name) / "attempt.yaml"
        path.write_text(spec("attempt", [options.python, "-c", REPORT], {}, f"searcher: {{name: random, max_trials: {options.trials}}}"))
        for _ in range(options.runs):
            begun = time.monotonic()
            for _ in range(options.trials):
                subprocess.run([options.python, "-c", REPORT], env=environment, stdout=subprocess.DEVNULL, check=True)
            bare = (time.monotonic() - begun) * 1000 / options.trials
            _, job, _ = machines.run(path)
            trials = machines.ctl("trial", "list", job)["trials"]
            own = statistics.mean(one["attempts"][0]["ended_ms"] - one["attempts"][0]["started_ms"] for one in trials)
            wall = (max(one["ended_ms"] for one in trials) - min(one["started_ms"] for one in trials)) / options.trials
            rows.append((bare, own, wall))
            print(rows[-1], file=sys.stderr, flush=True)
    print("| a Python program that reports once, ms, median | |\n|---|---|")
    for name, values in zip(["the process by hand", "its attempt, start to end", "a trial in a row of them, one slot"], zip(*rows)):
        print(f"| {name} | {statistics.median(values):.0f} ({', '.join(f'{v:.0f}' for v in values)}) |")
    print(f"| attempt beyond the process, by run, median | {statistics.median(row[1] - row[0] for row in rows):.0f} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["recover", "checkpoint", "attempt"])
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--ray")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--megabytes", type=int, default=1000)
    options = parser.parse_args()
    {"recover": recover, "checkpoint": checkpoint, "attempt": attempt}[options.what](options)
