#!/usr/bin/env python3
"""Times take-overs among coordinators over a real etcd of three members, and prints a table.

    cargo build --release --workspace --bins --features trainyard-coordinator/etcd
    python3 benches/failover.py [--kills 100] [--trials 10000] [--pause 1] [--profile release]

Three etcd members, three coordinators with a lease of 3 s, and a worker run as processes on this machine. First a job
of so many no-op trials is brought to its end, so that this much is stored; another trains all the time. Then, so many
times for each row:

killed            SIGKILL of the leader
killed with etcd  the same, with etcd's own leader at the same moment
told to leave     SIGTERM of the leader

Timed is what a client sees: from the signal until `coordinatorctl submit`, started at the same moment and knowing all
three addresses, has had its job accepted. The coordinator that went is started again and is warm before the next
take-over, which comes so many seconds later (`--pause`). In the end it is checked that no trial was lost, repeated or
restarted: of the stored job, of those that were submitted meanwhile, and of the one that trained. Needs etcd.
"""
import argparse, base64, json, os, signal, statistics, subprocess, tempfile, time, urllib.request
from pathlib import Path

from services import etcd_members, free_ports, healthy, until

ROOT = Path(__file__).resolve().parent.parent
NOOP = """name: noop
entrypoint: {{command: ["sh", "-c", 'echo "{{\\"metrics\\": {{\\"loss\\": 1}}}}"']}}
objectives: [{{metric: loss, mode: minimize}}]
hyperparameters: {{x: {{type: double, minval: 0, maxval: 1}}}}
searcher: {{name: random, max_trials: {trials}}}
"""
# Trials of some seconds; each writes down when it begins and ends.
STEPS = """name: steps
entrypoint:
  command:
    - sh
    - -c
    - |
      echo "begin $TRAINYARD_TRIAL_ID" >> {ledger}
      for step in 1 2 3 4 5 6 7 8 9 10; do sleep 2; echo "{{\"step\": $step, \"metrics\": {{\"loss\": $step}}}}"; done
      echo "end $TRAINYARD_TRIAL_ID" >> {ledger}
objectives: [{{metric: loss, mode: minimize}}]
hyperparameters: {{x: {{type: double, minval: 0, maxval: 1}}}}
searcher: {{name: random, max_trials: 100000, max_concurrent_trials: 2}}
"""


class Group:
    """Processes by number, all with one kind of command."""

    def __init__(self, folder, name):
        self.folder, self.name, self.commands, self.processes = folder, name, {}, {}

    def start(self, number, command=None):
        command = self.commands.setdefault(number, command)
        log = open(self.folder / f"{self.name}-{number}.log", "a")
        self.processes[number] = subprocess.Popen([str(word) for word in command], stdout=log, stderr=log)

    def end(self, number, how):
        self.processes[number].send_signal(how)

    def gone(self, number):
        self.processes.pop(number).wait(60)

    def kill_all(self):
        for process in self.processes.values():
            process.kill()
            process.wait()


class Cluster:
    def __init__(self, folder, binaries, trials, pause):
        self.folder, self.binaries, self.pause = folder, binaries, pause
        self.etcd, self.coordinators, self.workers = (Group(folder, name) for name in ("etcd", "coordinator", "worker"))
        self.addresses = [f"127.0.0.1:{port}" for port in free_ports(3)]
        self.members, commands = etcd_members(folder, 3)
        for n, command in enumerate(commands):
            self.etcd.start(n, command)
        until("etcd", self.etcd_leader)
        for n in range(3):
            self.coordinators.start(n, [binaries / "coordinator", "--listen", self.addresses[n], "--etcd", ",".join(self.members),
                                        "--leader-lease-ms", 3000, "--checkpoint-url", f"file://{folder}/store"])
        self.workers.start(0, [binaries / "worker", "--coordinator", ",".join(self.addresses), "--slots", 4, "--threads-per-slot", 1, "--programs", "allow"])
        (folder / "quick.yaml").write_text(NOOP.format(trials=1))
        (folder / "many.yaml").write_text(NOOP.format(trials=trials))
        until("a leader", self.leader)
        self.trials, self.submitted = trials, []
        self.many = json.loads(self.ctl("submit", folder / "many.yaml"))["job_id"]
        begin = time.monotonic()
        self.ctl("wait", self.many)
        print(f"{trials} trials stored within {time.monotonic() - begin:.0f} s", flush=True)
        self.ledger = folder / "ledger"
        (folder / "steps.yaml").write_text(STEPS.format(ledger=self.ledger))
        self.steps = json.loads(self.ctl("submit", folder / "steps.yaml"))["job_id"]
        for n in range(3):
            self.warm(n)

    def ctl(self, *arguments):
        command = [self.binaries / "coordinatorctl", *map(str, arguments), "--output", "json"]
        environment = dict(os.environ, TRAINYARD_COORDINATOR=",".join(self.addresses))
        return subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, cwd=self.folder).stdout

    def etcd_leader(self):
        """Number of the member that leads, if one does."""
        for number, member in enumerate(self.members):
            try:
                with urllib.request.urlopen(f"{member}/metrics", timeout=2) as answer:
                    if b"\netcd_server_is_leader 1\n" in answer.read():
                        return number
            except OSError:
                pass
        return None

    def leader(self):
        """Number of the coordinator that leads, if one does."""
        key = json.dumps({"key": base64.b64encode(b"/trainyard/leader").decode()}).encode()
        for member in self.members:
            try:
                with urllib.request.urlopen(f"{member}/v3/kv/range", key, timeout=2) as answer:
                    found = json.load(answer).get("kvs", [])
            except OSError:
                continue
            address = base64.b64decode(found[0]["value"]).decode().rpartition(" ")[2] if found else ""
            return self.addresses.index(address) if address in self.addresses else None
        return None

    def warm(self, number):
        """Waits until a coordinator that was started leads, or has read what is stored."""
        log = self.folder / f"coordinator-{number}.log"
        ready = ("a standby is warm", "this coordinator leads")
        last_start = "coordinator starts as a standby"
        until("a warm standby", lambda: any(word in log.read_text().rpartition(last_start)[2] for word in ready))

    def take_over(self, how, with_etcd):
        """Seconds from the signal to the first accepted write."""
        leader = until("a leader", self.leader)
        member = self.etcd_leader() if with_etcd else None
        begin = time.monotonic()
        if member is not None:
            self.etcd.end(member, signal.SIGKILL)
        self.coordinators.end(leader, how)
        self.submitted.append(json.loads(self.ctl("submit", self.folder / "quick.yaml"))["job_id"])
        took = time.monotonic() - begin
        self.coordinators.gone(leader)
        if member is not None:
            self.etcd.gone(member)
            self.etcd.start(member)
            # All three, so that the next one to be killed is the only one that is missing.
            until("etcd", lambda: all(map(healthy, self.members)))
        self.coordinators.start(leader)
        self.warm(leader)
        time.sleep(self.pause)
        return took

    def check(self):
        """What was stored, submitted and trained, and whether each trial ran once."""
        def trials(job):
            return json.loads(self.ctl("trial", "list", job))["trials"]

        for job in self.submitted:
            self.ctl("wait", job)
        jobs = [job["job_id"] for job in json.loads(self.ctl("list", "--limit", 1_000_000))["jobs"]]
        assert sorted(jobs) == sorted([self.many, self.steps, *self.submitted]), "a job is lost, or there twice"
        stored = trials(self.many)
        assert [trial["trial_id"] for trial in stored] == list(range(self.trials)), "trials are lost"
        assert all(trial["state"] == "completed" and trial["restarts"] == 0 for trial in stored), "trials ran again"
        trained = [trial for trial in trials(self.steps) if trial["state"] in ("running", "completed")]
        assert all(trial["restarts"] == 0 for trial in trained), "a trial was restarted"
        lines = self.ledger.read_text().splitlines()
        assert len(lines) == len(set(lines)), "a trial began or ended twice"
        ended = sum(line.startswith("end") for line in lines)
        completed = sum(trial["state"] == "completed" for trial in trained)
        assert 0 <= ended - completed <= 2, "a trial that ended is not completed"
        print(f"checked: {len(stored)} stored trials, {len(self.submitted)} jobs submitted during take-overs, {completed} trials "
              f"that trained meanwhile: none lost, repeated or restarted")

    def close(self):
        for group in (self.workers, self.coordinators, self.etcd):
            group.kill_all()


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--kills", type=int, default=100, help="take-overs for each row")
    options.add_argument("--trials", type=int, default=10_000, help="trials that are stored before")
    options.add_argument("--kills-with-etcd", type=int, help="the same for the second row")
    options.add_argument("--pause", type=float, default=1, help="seconds between take-overs")
    options.add_argument("--profile", default="release", help="release or debug")
    options = options.parse_args()
    binaries = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / options.profile
    with tempfile.TemporaryDirectory() as folder:
        cluster = Cluster(Path(folder), binaries, options.trials, options.pause)
        try:
            print("| leader was | take-overs | p50 s | p95 s | longest s |\n|---|---|---|---|---|")
            for row, how, with_etcd in (("killed", signal.SIGKILL, False), ("killed with etcd's leader", signal.SIGKILL, True),
                                        ("told to leave", signal.SIGTERM, False)):
                kills = options.kills_with_etcd if with_etcd and options.kills_with_etcd is not None else options.kills
                if not kills:
                    continue
                times = sorted(cluster.take_over(how, with_etcd) for _ in range(kills))
                p95 = times[min(len(times) - 1, int(0.95 * len(times)))]
                print(f"| {row} | {len(times)} | {statistics.median(times):.2f} | {p95:.2f} | {times[-1]:.2f} |", flush=True)
            cluster.check()
        finally:
            cluster.close()


if __name__ == "__main__":
    main()
