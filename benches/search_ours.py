"""Our side of benches/search.py: `coordinatorctl ask-tell`, a process for each run."""
import hashlib, json, os, subprocess, tempfile, time
from pathlib import Path


class Refused(Exception):
    """The process has ended, or has answered with an error."""


def build(program):
    """What a binary is known by in the records."""
    return hashlib.sha256(Path(program).read_bytes()).hexdigest()[:12]


def cpu_seconds(pid):
    """Processor time of one process; to the nanosecond, where /proc counts in hundredths of a second."""
    return time.clock_gettime((~pid << 3) | 2)


class Ours:
    """Drives one search. `scheduler` and `rungs` for one of several fidelities; with `objectives` a value is a value of each."""

    def __init__(self, program, space, searcher, seed, scheduler=None, rungs=None, objectives=(), constraints=(),
                 **more):
        document = {"hyperparameters": {parameter.name: parameter.spec() for parameter in space},
                    "searcher": {"name": searcher} | more}
        if constraints:
            document["constraints"] = list(constraints)
        self.objectives = objectives
        if objectives:
            document["objectives"] = [{"metric": metric, "mode": "minimize"} for metric in objectives]
        if scheduler:
            document["scheduler"] = {"name": scheduler, "min_resource": rungs[0], "max_resource": rungs[-1], "eta": 3}
        self.whole = rungs[-1] if rungs else None
        # Every JSON document is one of YAML.
        self.file = tempfile.NamedTemporaryFile("w", suffix=".yaml")
        json.dump(document, self.file)
        self.file.flush()
        command = [program, "ask-tell", self.file.name, "--seed", str(seed)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def say(self, **line):
        try:
            self.process.stdin.write(json.dumps(line) + "\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise Refused(f"ask-tell ended: {self.process.stderr.read().strip()[-500:]}")
        answer = json.loads(answer)
        if "error" in answer:
            raise Refused(f"{line}: {answer['error']}")
        return answer

    def ask(self):
        answer = self.say(ask={})
        if self.whole is None:
            if "trial" not in answer:
                raise Refused(f"asked for a trial and answered {answer}")
            return answer["trial"], answer["params"]
        if "trial" not in answer:
            return None
        if "clone" in answer:
            raise Refused("a trial that goes on from another's checkpoint: not part of the protocol")
        return answer["trial"], answer["params"], answer["from"] or 0, answer["until"] or self.whole

    def told(self, value):
        return {"values": dict(zip(self.objectives, value))} if self.objectives else {"value": value}

    def tell(self, trial, value):
        self.say(tell={"trial": trial} | self.told(value))

    def report(self, trial, resource, value, last):
        goes_on = self.say(report={"trial": trial, "resource": resource} | self.told(value))["decision"] == "continue"
        if goes_on and last:
            self.tell(trial, value)
        return goes_on

    @property
    def cpu_s(self):
        return cpu_seconds(self.process.pid)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()
        self.file.close()
