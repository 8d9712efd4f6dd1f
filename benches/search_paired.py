#!/usr/bin/env python3
"""Two methods or builds seed by seed, from the lines that `search.py --records` and `examples/regret --each` write.

    cargo run --release -p trainyard-search --example regret -- --method gp --functions hartmann6 --seeds 100 --each before.jsonl
    (change something, and the same with --each after.jsonl)
    python3 benches/search_paired.py before.jsonl after.jsonl [--marks 50,100]

For each function and number of workers: median regrets, the share of runs that end above 0.01, the mean difference of the
regrets' common logarithms, second minus first (below 0 the second is better), and how often chance alone would bring one as
large (pairs of signs thrown; a file has one method). Regrets below 1e-4 count as 1e-4. Standard library only.
"""
import argparse, json, math, random, statistics

from search_table import FLOOR, at

THROWS = 5000
# A regret above it is of another minimum than the best.
ELSEWHERE = 0.01


def runs(path):
    """By function and workers: seed, then run."""
    found = {}
    for line in open(path):
        run = json.loads(line)
        if run.get("kind") == "regret":
            found.setdefault((run["function"], run["workers"]), {})[run["seed"]] = run
    return found


def chance(differences):
    """Of a mean as far from 0, were each difference as likely to have the other sign."""
    if not any(differences):
        return 1.0
    draw, seen = random.Random(0), abs(sum(differences)) - 1e-9
    throws = (abs(sum(d if draw.getrandbits(1) else -d for d in differences)) >= seen for _ in range(THROWS))
    return (1 + sum(throws)) / (1 + THROWS)


def cell(regrets):
    elsewhere = sum(regret > ELSEWHERE for regret in regrets) / len(regrets)
    return f"{statistics.median(regrets):.2g} ({100 * elsewhere:.0f}%)"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first")
    parser.add_argument("second")
    parser.add_argument("--marks", default="50,100", help="numbers of evaluations")
    given = parser.parse_args()
    first, second = runs(given.first), runs(given.second)
    print("| function | workers | evaluations | seeds | first | second | difference | by chance |")
    print("|---|---|---|---|---|---|---|---|")
    for function, workers in first:
        ours, theirs = first[function, workers], second.get((function, workers), {})
        for mark in map(int, given.marks.split(",")):
            pairs = [(at(ours[seed], mark, "evaluations"), at(theirs[seed], mark, "evaluations"))
                     for seed in sorted(ours.keys() & theirs.keys())]
            pairs = [pair for pair in pairs if None not in pair]
            if not pairs:
                continue
            logs = [math.log10(max(b, FLOOR)) - math.log10(max(a, FLOOR)) for a, b in pairs]
            cells = cell([a for a, _ in pairs]), cell([b for _, b in pairs])
            print(f"| {function} | {workers} | {mark} | {len(pairs)} | {cells[0]} | {cells[1]} | "
                  f"{statistics.mean(logs):+.2f} | {chance(logs):.3f} |")


if __name__ == "__main__":
    main()
