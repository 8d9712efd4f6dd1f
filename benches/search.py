#!/usr/bin/env python3
"""Quality and cost of the search, ours beside the peers in one run. What is recorded stays: an interrupted run goes on.

    cargo build --release -p coordinatorctl
    python3 benches/search.py regret                       # one fidelity, 1 worker and 8 asynchronous ones
    python3 benches/search.py fidelity                     # several fidelities, on simulated time
    python3 benches/search.py cost                         # processor time of a suggestion, memory of a trial
    python3 benches/search.py constrained                  # under constraints, 1 worker
    python3 benches/search.py uniform                      # how evenly is drawn what meets constraints
    python3 benches/search.py table [regret|fidelity|cost|constrained|uniform]

    --methods auto,gp,optuna_gp  --functions branin,mixed  --workers 1,8  --seeds 0-9  --seconds 600  --records FILE

Peers come from PyPI into target/search-peers; what does not install is skipped, and said. Regrets are those of
search_protocol.py on the functions of search_functions.py.
"""
import argparse, json, sys, time
from pathlib import Path

import search_constrained, search_cost, search_environment as environment, search_functions as functions, search_protocol as protocol
import search_table, search_uniform
from search_ours import Ours, Refused, build

TARGET = environment.FOLDER.parent
# Evaluations of methods whose suggestions are cheap, and of the others.
CHEAP, DEAR = 200, 100
# In whole evaluations.
BUDGET = 50

OURS = {"auto": DEAR, "gp": DEAR, "tpe": CHEAP, "cma_es": CHEAP, "sobol": CHEAP, "random": CHEAP}
# Evaluations, and the groups of packages that it needs.
PEERS = {
    "optuna_tpe": (CHEAP, ["optuna"]),
    "optuna_independent-tpe": (CHEAP, ["optuna"]),
    "optuna_gp": (DEAR, ["optuna", "torch"]),
    "optuna_cma": (CHEAP, ["optuna"]),
    "optuna_qmc": (CHEAP, ["optuna"]),
    "optuna_random": (CHEAP, ["optuna"]),
    "smac": (DEAR, ["smac"]),
    "botorch": (DEAR, ["optuna", "torch", "botorch"]),
}
SCHEDULERS = ["auto", "asha", "hyperband", "async_hyperband"]
SEARCHERS = ["random", "tpe", "gp", "auto", "bohb", "dehb"]
OURS_OF_SEVERAL = [f"{scheduler}+{searcher}" for scheduler in SCHEDULERS for searcher in SEARCHERS]
PEERS_OF_SEVERAL = {f"optuna_{sampler}{pruner}": ["optuna"] for sampler in ("random", "tpe") for pruner in ("", "_asha", "_hb")}
PEERS_OF_SEVERAL |= {"syne_asha": ["syne"], "syne_bohb": ["syne"]}
OURS_CONSTRAINED = ["auto", "gp", "tpe", "random"]
PEERS_CONSTRAINED = {"optuna_tpe": ["optuna"], "optuna_gp": ["optuna", "torch"], "ax_default": ["torch", "botorch", "ax"]}
TABLES = ["regret", "fidelity", "cost", "constrained", "uniform"]


def groups_of(kind, method):
    """The packages that a peer needs; none of ours."""
    if kind == "regret":
        return PEERS.get(method, (0, None))[1]
    return (PEERS_OF_SEVERAL if kind == "fidelity" else PEERS_CONSTRAINED).get(method)


def measured(kind):
    """Our methods, the peers, the functions."""
    return {"regret": (OURS, PEERS, functions.SINGLE), "fidelity": (OURS_OF_SEVERAL, PEERS_OF_SEVERAL, functions.FIDELITY),
            "constrained": (OURS_CONSTRAINED, PEERS_CONSTRAINED, search_constrained.FUNCTIONS)}[kind]


class Records:
    """A line of JSON for each finished run; a later one of the same run is in place of the earlier."""

    def __init__(self, path, any_build=False):
        self.path, self.runs, self.any_build = path, {}, any_build
        path.parent.mkdir(parents=True, exist_ok=True)
        text = path.read_text() if path.exists() else ""
        for line in text.splitlines():
            try:
                self.keep(json.loads(line))
            except ValueError:
                print(f"a line of {path} is no JSON; it is left alone", file=sys.stderr)
        if text and not text.endswith("\n"):
            with open(path, "a") as file:
                file.write("\n")

    @staticmethod
    def key(run):
        return tuple(run.get(field) for field in ("kind", "method", "function", "workers", "seed", "finished", "decade"))

    def keep(self, run):
        self.runs[self.key(run)] = run

    def add(self, run):
        self.keep(run)
        with open(self.path, "a") as file:
            file.write(json.dumps(run) + "\n")

    def done(self, job):
        """Whether there is a run at least as long, of ours with the same build."""
        known = self.runs.get(self.key(job))
        return bool(known) and all(known.get(size, 0) >= job[size] for size in ("evaluations", "budget") if size in job) \
            and (self.any_build or known.get("build") == job.get("build"))


def whole_numbers(text):
    """`0-3,7` as 0, 1, 2, 3, 7."""
    ranges = (part.partition("-") for part in text.split(","))
    return [number for low, _, high in ranges for number in range(int(low), int(high or low) + 1)]


def chosen(names, known, what):
    """Those that were named, in the order of `known`; `ours` and `peers` stand for themselves."""
    if not names:
        return list(known)
    wanted = set(names.split(","))
    for group in {"ours", "peers"} & wanted:
        wanted |= {name for name in known if search_table.is_peer(name) == (group == "peers")}
    if unknown := wanted - set(known) - {"ours", "peers"}:
        sys.exit(f"unknown {what}: {', '.join(sorted(unknown))}; known: {', '.join(known)}")
    return [name for name in known if name in wanted]


def fits(method, function):
    return (method != "botorch" or function.continuous()) and (not method.startswith("ax_") or bool(function.linear))


def jobs(given, ours, peers, known):
    """Every run that is asked for, seed by seed, so that an interrupted bench has all methods on the same seeds."""
    methods = chosen(given.methods, [*ours, *peers], "methods")
    names = chosen(given.functions, known, "functions")
    for seed in whole_numbers(given.seeds):
        for name in names:
            for workers in whole_numbers(given.workers):
                for method in methods:
                    if fits(method, known[name]):
                        yield {"kind": given.what, "method": method, "function": name, "workers": workers, "seed": seed}


def run_constrained(job, program):
    function = search_constrained.FUNCTIONS[job["function"]]
    with Ours(program, function.space, job["method"], job["seed"], constraints=function.constraints) as search:
        return search_constrained.drive(search, function, job["evaluations"]) | {"cpu_s": round(search.cpu_s, 4)}


def run_ours(job, program):
    if job["kind"] == "constrained":
        return run_constrained(job, program)
    several = job["kind"] == "fidelity"
    function = (functions.FIDELITY if several else functions.SINGLE)[job["function"]]
    scheduler, _, searcher = job["method"].rpartition("+")
    rungs = function.rungs if several else None
    with Ours(program, function.space, searcher, job["seed"], scheduler, rungs) as search:
        if several:
            curve = protocol.fidelity(search, function, job["workers"], job["budget"], job["seed"])
        else:
            curve = protocol.single(search, function, job["workers"], job["evaluations"], job["seed"])
        return {"curve": curve, "cpu_s": round(search.cpu_s, 4)}


def carry_out(todo, records, program, usable, end):
    """Runs what is not recorded yet. A method of ours that is refused on a function is left out there from then on."""
    peers, left_out, ran = environment.Peers(), set(), 0
    for number, job in enumerate(todo, 1):
        method = job["method"]
        if time.monotonic() > end:
            print(f"out of time: {len(todo) - number + 1} of {len(todo)} runs were not looked at", file=sys.stderr)
            break
        needs = groups_of(job["kind"], method)
        if (method, job["function"]) in left_out or needs and not usable.issuperset(needs) or records.done(job):
            continue
        begin = time.monotonic()
        try:
            outcome = peers.run(job) if needs else run_ours(job, program)
        except (Refused, search_constrained.Forbidden) as refused:
            outcome = {"error": str(refused)}
        what = " ".join(str(job[field]) for field in ("method", "function", "workers", "seed"))
        if "error" in outcome:
            print(f"!!! {what}: {outcome['error']}", file=sys.stderr)
            left_out |= set() if needs else {(method, job["function"])}
            continue
        records.add(job | outcome)
        ran += 1
        last = outcome["curve"][-1][1] if outcome["curve"] else float("nan")
        print(f"{number}/{len(todo)} {what}: {last:.3g}, cpu {outcome['cpu_s']:.2f} s, wall {time.monotonic() - begin:.1f} s", flush=True)
    peers.close()
    if left_out:
        refused = ", ".join(f"{method} on {function}" for method, function in sorted(left_out))
        print(f"!!! LEFT OUT, refused by {program}: {refused}", file=sys.stderr)
    print(f"{ran} runs recorded in {records.path}")


def measure(given, records):
    ours, peers, known = measured(given.what)
    if given.what == "constrained":
        given.workers = "1"
    todo = list(jobs(given, ours, peers, known))
    needs_ours = any(job["method"] in ours for job in todo)
    if needs_ours and not given.coordinatorctl.exists():
        sys.exit(f"no {given.coordinatorctl}: build it (cargo build --release -p coordinatorctl) or give --coordinatorctl")
    version = build(given.coordinatorctl) if needs_ours else None
    for job in todo:
        method = job["method"]
        if given.what == "fidelity":
            job["budget"] = given.budget
        elif given.what == "constrained":
            job["evaluations"] = given.evaluations or search_constrained.EVALUATIONS
        else:
            job["evaluations"] = given.evaluations or (OURS[method] if method in ours else PEERS[method][0])
        if method in ours:
            job["build"] = version
    groups = {}
    for job in todo:
        if job["method"] in peers and not records.done(job):
            groups |= dict.fromkeys(groups_of(given.what, job["method"]))
    usable = environment.available(groups) if groups else set()
    carry_out(todo, records, given.coordinatorctl, usable, time.monotonic() + given.seconds)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=[*TABLES, "table"])
    parser.add_argument("tables", nargs="*", help="of `table`: those to show; default: all")
    parser.add_argument("--methods", help="names, `ours`, `peers`; default: all")
    parser.add_argument("--functions", help="default: all")
    parser.add_argument("--workers", default="1,8")
    parser.add_argument("--seeds", default="0-19")
    parser.add_argument("--evaluations", type=int, help=f"default: {CHEAP} of cheap methods, {DEAR} of the others")
    parser.add_argument("--budget", type=float, default=BUDGET, help="of `fidelity`, in whole evaluations; default: %(default)s")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no run after so many")
    parser.add_argument("--records", type=Path, default=TARGET / "search.jsonl", help="default: %(default)s")
    parser.add_argument("--also", type=Path, action="append", default=[], help="of `table`: records of another file, too")
    parser.add_argument("--coordinatorctl", type=Path, default=TARGET / "release/coordinatorctl")
    parser.add_argument("--statistic", choices=["median", "mean"], default="median", help="whose difference `table` judges by")
    parser.add_argument("--idle", action="store_true", help="in `table fidelity` count the time of idle workers as cost, too")
    parser.add_argument("--any-build", action="store_true", help="take runs of another build of coordinatorctl for done")
    given = parser.parse_args()
    if given.what != "table" and given.tables or set(given.tables) - set(TABLES):
        parser.error(f"not understood: {' '.join(given.tables)}")
    return given


def main():
    given = arguments()
    records = Records(given.records, given.any_build)
    if given.what == "table":
        for path in given.also:
            records.runs = Records(path).runs | records.runs
        search_table.show(records.runs.values(), given)
    elif given.what == "cost":
        search_cost.measure(given, records)
    elif given.what == "uniform":
        search_uniform.measure(given, records, whole_numbers(given.seeds))
    else:
        measure(given, records)


if __name__ == "__main__":
    main()
