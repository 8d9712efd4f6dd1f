"""The tables of benches/search.py, from what was recorded."""
import random, statistics

import search_uniform

# A regret below it counts as none: nobody would go on.
FLOOR = 1e-4
# And that of a search that has not found anything that is allowed.
CEILING = 1e9
RESAMPLES = 2000
# Both ends of a 90% interval.
TAIL = 0.05
# With fewer an interval says nothing.
FEWEST = 5

# Where the curve is looked at, and where it is judged.
MARKS = {"regret": ((25, 50, 100, 200), (50, 100)), "fidelity": ((5, 10, 25, 50), (25, 50)), "constrained": ((15, 30, 60), (30, 60))}
SIZE = {"regret": "evaluations", "fidelity": "budget", "constrained": "evaluations"}
NAMESAKES = {
    "gp": ["optuna_gp"], "tpe": ["optuna_tpe"], "cma_es": ["optuna_cma"], "sobol": ["optuna_qmc"], "random": ["optuna_random"],
    "asha+random": ["optuna_random_asha", "syne_asha"], "asha+tpe": ["optuna_tpe_asha"], "asha+bohb": ["syne_bohb"],
    "hyperband+random": ["optuna_random_hb"], "hyperband+tpe": ["optuna_tpe_hb"], "hyperband+bohb": ["syne_bohb"],
    "async_hyperband+random": ["optuna_random_hb"], "async_hyperband+tpe": ["optuna_tpe_hb"], "async_hyperband+bohb": ["syne_bohb"],
}


def is_peer(method):
    return method.startswith(("optuna_", "syne_", "smac", "botorch", "ax_", "exact", "rejection"))


def is_auto(method):
    return method.rpartition("+")[2] == "auto"


def at(run, mark, size, idle=False):
    """The regret after so many evaluations or so much cost; None if the run ended before, infinite before the first result."""
    if run[size] < mark:
        return None
    when = 2 if idle and size == "budget" else 0
    return next((entry[1] for entry in reversed(run["curve"]) if entry[when] <= mark + 1e-9), float("inf"))


def quantile(ordered, share):
    """By linear interpolation, as most do it."""
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    if ordered[low] == ordered[high]:
        return ordered[low]
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def summary(values):
    middle, low, high = (quantile(sorted(values), share) for share in (0.5, 0.25, 0.75))
    return f"{middle:.3g} [{low:.3g}, {high:.3g}]".replace("inf", "-").replace("nan", "-")


class Row:
    """All runs of one function with so many workers: method, then seed."""

    def __init__(self, kind, idle):
        self.size, self.idle, self.runs = SIZE[kind], idle, {}

    def regrets(self, method, mark):
        """By seed, none below the floor or above the ceiling."""
        every = {seed: at(run, mark, self.size, self.idle) for seed, run in self.runs.get(method, {}).items()}
        return {seed: min(max(regret, FLOOR), CEILING) for seed, regret in every.items() if regret is not None}

    def shown(self, method, mark):
        every = [at(run, mark, self.size, self.idle) for run in self.runs[method].values()]
        known = [regret for regret in every if regret is not None]
        return summary(known) if known else "-"


def interval(ours, theirs, statistic):
    """Paired bootstrap over seeds: 90% of the differences lie between."""
    draw, pairs, differences = random.Random(0), list(zip(ours, theirs)), []
    for _ in range(RESAMPLES):
        sample = draw.choices(pairs, k=len(pairs))
        differences.append(statistic([a for a, _ in sample]) - statistic([b for _, b in sample]))
    differences.sort()
    return quantile(differences, TAIL), quantile(differences, 1 - TAIL)


class Verdict:
    """Ours against the best of these peers, by their medians on the seeds that both have; none with too few of those."""

    def __init__(self, row, method, peers, mark, statistic):
        ours, self.peer = row.regrets(method, mark), None
        for peer in peers:
            theirs = row.regrets(peer, mark)
            seeds = sorted(ours.keys() & theirs.keys())
            if len(seeds) < FEWEST:
                continue
            median = statistics.median(theirs[seed] for seed in seeds)
            if self.peer is None or median < self.median:
                self.peer, self.median, self.seeds = peer, median, seeds
                pair = [ours[seed] for seed in seeds], [theirs[seed] for seed in seeds]
        if self.peer:
            self.ratio = statistics.median(pair[0]) / self.median
            self.low, self.high = interval(*pair, statistic)
            self.word = "worse" if self.low > 0 else "better" if self.high < 0 else "tie"

    def cell(self):
        return f"{self.word}, {self.ratio:.3g} ({self.peer}, {len(self.seeds)} seeds; [{self.low:.2g}, {self.high:.2g}])"


def grouped(runs, kind, idle):
    rows = {}
    for run in runs:
        if run["kind"] == kind:
            row = rows.setdefault((run["function"], run["workers"]), Row(kind, idle))
            row.runs.setdefault(run["method"], {})[run["seed"]] = run
    return dict(sorted(rows.items()))


def warn_of_builds(runs, kind):
    builds = {}
    for run in runs:
        if run["kind"] == kind and "build" in run:
            builds.setdefault(run["build"], set()).add(run["method"])
    if len(builds) > 1:
        for build, methods in builds.items():
            print(f"NOTE: build {build}: {', '.join(sorted(methods))}")


def curves(rows, kind):
    marks = MARKS[kind][0]
    print(f"\n| function | workers | method | seeds | cpu s a run | {' | '.join(f'{mark}' for mark in marks)} |")
    print("|---" * (5 + len(marks)) + "|")
    for (name, workers), row in rows.items():
        for method in sorted(row.runs, key=lambda method: (is_peer(method), method)):
            runs = row.runs[method].values()
            cpu = statistics.median(run["cpu_s"] for run in runs)
            cells = [row.shown(method, mark) for mark in marks]
            print(f"| {name} | {workers} | {method} | {len(runs)} | {cpu:.2g} | {' | '.join(cells)} |")


def exceeded(rows):
    """Evaluations that were not allowed, of all of a run: of ours there are none."""
    print("\n| function | method | evaluations that break a constraint, median of the runs |\n|---|---|---|")
    for (name, _), row in rows.items():
        for method in sorted(filter(is_peer, row.runs)):
            runs = row.runs[method].values()
            print(f"| {name} | {method} | {statistics.median(run['exceeded'] for run in runs):g} of {min(run['evaluations'] for run in runs)} |")


def verdicts(rows, kind, statistic):
    """A line for each comparison that can be made, and what they come to."""
    unit = "cost" if kind == "fidelity" else "evaluations"
    print(f"\n| ours | function | workers | {unit} | verdict, ratio of the medians (against; 90% interval of the difference) |\n|---|---|---|---|---|")
    methods = sorted({method for row in rows.values() for method in row.runs if not is_peer(method)},
                     key=lambda method: (not is_auto(method), method))
    sums = []
    for method in methods:
        made = []
        for (name, workers), row in rows.items():
            peers = [peer for peer in row.runs if is_peer(peer)] if is_auto(method) else NAMESAKES.get(method, [])
            for mark in MARKS[kind][1]:
                verdict = Verdict(row, method, peers, mark, statistic)
                if verdict.peer:
                    made.append(verdict)
                    print(f"| {method} | {name} | {workers} | {mark} | {verdict.cell()} |")
        if made:
            count = {word: sum(verdict.word == word for verdict in made) for word in ("better", "tie", "worse")}
            half = sum(verdict.ratio <= 0.5 for verdict in made)
            against = "the best peer of each row" if is_auto(method) else " or ".join(NAMESAKES[method])
            sums.append(f"{method} against {against}: of {len(made)} rows better on {count['better']}, tie on {count['tie']}, "
                        f"worse on {count['worse']} (nowhere worse: {'yes' if not count['worse'] else 'no'}); at most half on {half}")
    print("\n" + "\n".join(sums))


def costs(runs):
    known = {(run["method"], run["finished"]): run for run in runs if run["kind"] == "cost"}
    pairs = {"tpe": "optuna_tpe", "gp": "optuna_gp", "random": "optuna_random", "auto": "optuna_gp", "cma_es": "optuna_cma",
             "asha+tpe": "optuna_tpe_asha"}
    print("\n| method | finished trials | ours, cpu ms of ask + tell | peer | peer, cpu ms | peer / ours |\n|---|---|---|---|---|---|")
    for (method, finished), run in sorted(known.items()):
        if not is_peer(method):
            peer = pairs.get(method, "-")
            other = known.get((peer, finished))
            cells = [f"{other['cpu_ms']:.3g}", f"{other['cpu_ms'] / run['cpu_ms']:.3g}"] if other else ["-", "-"]
            print(f"| {method} | {finished:,} | {run['cpu_ms']:.3g} | {peer} | {' | '.join(cells)} |")
    print("\n| method | KiB of memory a finished trial, from 1,000 to 10,000 |\n|---|---|")
    for method in sorted({method for method, _ in known}):
        less, more = known.get((method, 1000), {}).get("rss_kib"), known.get((method, 10_000), {}).get("rss_kib")
        if less and more:
            print(f"| {method} | {(more - less) / 9000:.3g} |")


def show(runs, given):
    runs = list(runs)
    statistic = statistics.median if given.statistic == "median" else statistics.fmean
    for kind in given.tables or [*MARKS, "cost", "uniform"]:
        if not any(run["kind"] == kind for run in runs):
            print(f"\nnothing recorded of {kind}")
            continue
        print(f"\n## {kind}\n")
        warn_of_builds(runs, kind)
        if kind == "cost":
            costs(runs)
        elif kind == "uniform":
            search_uniform.table(runs)
        else:
            rows = grouped(runs, kind, given.idle)
            curves(rows, kind)
            verdicts(rows, kind, statistic)
            if kind == "constrained":
                exceeded(rows)
