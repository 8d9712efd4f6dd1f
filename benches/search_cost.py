"""What a suggestion costs: processor time of ask and tell after so many finished trials, and memory of a trial.

Random, TPE and the evolutions grow a search of our own to so many trials; the peers are given the same trials as finished.
The Gaussian process of either side is given the first of those trials as known already: growing it would take hours on their
side. With a scheduler (`asha+gp`) a search of our own grows to so many trials that wait at rungs or have left them, and the peer
(`optuna_tpe_asha`) grows one of its own that prunes.
"""
import os, sys, time

import search_environment as environment, search_functions as functions
from ray_tune import rss_kib
from search_ours import Ours, Refused, build

FUNCTION, FUNCTION_OF_RUNGS = "hartmann6", "mfh6_good"
SEED = 0
# Finished trials, and suggestions measured at each.
ALL = (100, 1_000, 10_000)
WITH_RUNGS = (100, 500, 1_000, 2_000, 10_000)
GROWN = {name: ALL for name in ("random", "tpe", "cma_es", "bohb", "dehb")}
GIVEN = {"gp": (100, 1_000), "auto": (100, 1_000)}
GROWN_WITH_RUNGS = {f"asha+{name}": WITH_RUNGS for name in ("random", "tpe", "gp", "cma_es", "bohb", "dehb")}
GROWN_WITH_RUNGS |= {f"hyperband+{name}": WITH_RUNGS for name in ("gp", "bohb", "dehb")}
# Of two objectives, by MO-ASHA.
OF_TWO = " of two"
GROWN_WITH_RUNGS |= {f"asha+{name}{OF_TWO}": WITH_RUNGS for name in ("random", "nsga2", "gp")}
PEERS = {"optuna_random": (100, 1_000), "optuna_tpe": ALL, "optuna_gp": (100, 1_000)}
PEERS_WITH_RUNGS = {"optuna_tpe_asha": (100, 1_000)}
GROUPS = {"optuna_gp": ["optuna", "torch"]}
OURS_REPEATS, RUNG_REPEATS, DEAR_REPEATS, PEER_REPEATS = 200, 100, 10, {"optuna_gp": 3}


def job(method, finished, **more):
    rungs = method in GROWN_WITH_RUNGS | PEERS_WITH_RUNGS
    return {"kind": "cost", "method": method, "function": FUNCTION_OF_RUNGS if rungs else FUNCTION, "workers": 1, "seed": SEED, "finished": finished} | more


def step(search, function, trials):
    handle, params = search.ask()
    value = function.observe(params, 1, 0)
    search.tell(handle, value)
    trials.append((params, value))


def stretch(search, function):
    """Asks for a stretch of training and tells its results; whether it was a new trial's. One worker never waits for others."""
    handle, params, begins, until = search.ask()
    for rung in (rung for rung in function.rungs if begins < rung <= until):
        value = function.observe(params, rung, SEED)
        if not search.report(handle, rung, both(value) if search.objectives else value, rung == until):
            break
    return begins == 0


def both(value):
    """Two objectives of which every result lies on the front, which is what fronts cost most for."""
    return value, -value


def measured_with_rungs(search, function):
    """Of a new trial with the stretches that are promoted between it and the next."""
    before, new = search.cpu_s, 0
    while new < RUNG_REPEATS:
        new += stretch(search, function)
    return (search.cpu_s - before) * 1000 / new


def grow_with_rungs(program, method, marks, note, end):
    function, trials = functions.FIDELITY[FUNCTION_OF_RUNGS], 0
    scheduler, _, searcher = method.removesuffix(OF_TWO).partition("+")
    objectives = ("value", "size") if method.endswith(OF_TWO) else ()
    with Ours(program, function.space, searcher, SEED, scheduler, function.rungs, objectives) as search:
        for mark in marks:
            while trials < mark:
                if time.monotonic() > end:
                    return
                trials += stretch(search, function)
            spent = measured_with_rungs(search, function)
            trials += RUNG_REPEATS
            note(method, mark, {"cpu_ms": spent, "rss_kib": rss_kib(search.process.pid)})


def measured(search, function, trials, repeats):
    """Of our process; one suggestion is made first, so that nothing is counted that is done once."""
    step(search, function, trials)
    before = search.cpu_s
    for _ in range(repeats):
        step(search, function, trials)
    spent = (search.cpu_s - before) * 1000 / repeats
    return {"cpu_ms": spent, "rss_kib": rss_kib(search.process.pid)}


def grow(program, method, marks, note):
    """Runs a search, tells `note` what it costs on its way, and returns its trials."""
    function, trials = functions.SINGLE[FUNCTION], []
    with Ours(program, function.space, method, SEED) as search:
        for mark in marks:
            while len(trials) < mark:
                step(search, function, trials)
            note(method, mark, measured(search, function, trials, OURS_REPEATS))
    return trials


def give(program, method, trials, note):
    function = functions.SINGLE[FUNCTION]
    prior = [{"params": params, "value": value} for params, value in trials]
    with Ours(program, function.space, method, SEED, prior_results=prior) as search:
        note(method, len(trials), measured(search, function, [], DEAR_REPEATS))


def measure(given, records):
    print(f"load before: {os.getloadavg()[0]:.1f}")
    end = time.monotonic() + given.seconds
    program, version = given.coordinatorctl, build(given.coordinatorctl)
    wanted = given.methods.split(",") if given.methods else [*GROWN, *GIVEN, *GROWN_WITH_RUNGS, *PEERS, *PEERS_WITH_RUNGS]
    foreign = PEERS | PEERS_WITH_RUNGS

    def note(method, finished, outcome):
        more = {} if method in foreign else {"build": version}
        records.add(job(method, finished, **more) | outcome)
        print(f"{method} after {finished:,}: {outcome['cpu_ms']:.3g} ms", flush=True)

    def missing(method, marks):
        more = {} if method in foreign else {"build": version}
        return [mark for mark in marks if method in wanted and not records.done(job(method, mark, **more))]

    # The trials that the others are given: of TPE, since points that lie close together are what a search ends with.
    given_trials = None
    for method, marks in GROWN.items():
        others = method == "tpe" and any(missing(name, marks) for name, marks in (GIVEN | PEERS).items())
        if missing(method, marks) or others:
            trials = grow(program, method, marks, note)
            given_trials = trials if method == "tpe" else given_trials
    for method, marks in GIVEN.items():
        for mark in missing(method, marks):
            if time.monotonic() < end:
                try:
                    give(program, method, given_trials[:mark], note)
                except Refused as refused:
                    print(f"!!! {method}: {refused}", file=sys.stderr)
    for method, marks in GROWN_WITH_RUNGS.items():
        if missing(method, marks):
            grow_with_rungs(program, method, marks, note, end)
    cost_of_peers(missing, given_trials, note, end)


def cost_of_peers(missing, trials, note, end):
    todo = [(method, mark) for method, marks in (PEERS | PEERS_WITH_RUNGS).items() for mark in missing(method, marks)]
    usable = environment.available(dict.fromkeys(group for method, _ in todo for group in GROUPS.get(method, ["optuna"])))
    peers = environment.Peers()
    for method, mark in todo:
        if time.monotonic() > end or not usable.issuperset(GROUPS.get(method, ["optuna"])):
            continue
        outcome = peers.run(job(method, mark, trials=trials and trials[:mark], repeats=PEER_REPEATS.get(method, 20)))
        if "error" in outcome:
            print(f"!!! {method}: {outcome['error']}", file=sys.stderr)
        else:
            note(method, mark, outcome)
    peers.close()
