#!/usr/bin/env python3
"""`constrained` of benches/search.py: functions with constraints, and how a searcher is driven on them. Standard library only.

Ours is given the constraints and proposes nothing else. For Optuna they are soft: it hears by how much each is exceeded
(0 and less: met), and what exceeds one is an evaluation that counts and finds nothing. Ax is given those that are linear.
Run as a program it checks that the minima are allowed and reached.
"""
import math
from dataclasses import dataclass, field
from typing import Callable

import search_functions as functions

# Evaluations of a run: with one worker, and dear as each suggestion is.
EVALUATIONS = 60


class Forbidden(Exception):
    """A searcher that promises to keep to constraints has not."""


@dataclass(frozen=True)
class Constrained(functions.Function):
    """`constraints` are the texts that ours is given, `excess(params)` by how much each is exceeded, `linear` the texts for
    Ax, none where they cannot be said so."""
    constraints: list = field(default_factory=list)
    excess: Callable = None
    linear: list = field(default_factory=list)


def constrained(space, f, minimum, at, constraints, excess, linear=()):
    at = at if isinstance(at, dict) else {f"x{i}": x for i, x in enumerate(at)}
    return Constrained(space, lambda params, _resource, _seed: f(params), f, minimum, at, constraints=constraints, excess=excess,
                       linear=list(linear))


def vector(params):
    return [params[f"x{i}"] for i in range(len(params))]


ORDER = [f"x{i} <= x{i + 1}" for i in range(5)]

# The parts of the best mixture, which lies where the bound holds it; and how parts act on each other.
MIXTURE = [0.35, 0.25, 0.15, 0.10, 0.08, 0.05, 0.02, 0.0]


def mixture(params):
    """A bowl along the differences of neighbours, with ripples."""
    off = [x - best for x, best in zip(vector(params), MIXTURE)]
    bowl = sum((a + 0.7 * b) ** 2 for a, b in zip(off, off[1:] + off[:1]))
    return bowl + 0.02 * sum(1 - math.cos(6 * math.pi * a) for a in off)


TOTAL = " + ".join(f"x{i}" for i in range(len(MIXTURE)))
NETWORK = ["wd * 5 <= lr", "layers <= 6 or wd >= 0.001", "opt != 'momentum' or layers <= 4", "momentum <= 1 - lr"]


def network_excess(p):
    return [math.log10(p["wd"] * 5 / p["lr"]), min(p["layers"] - 6, math.log10(1e-3 / p["wd"])),
            min(0.0 if p["opt"] != "momentum" else math.inf, p["layers"] - 4), p.get("momentum", 0.0) + p["lr"] - 1 if "momentum" in p else 0.0]


TREES = ["trees * depth <= 1200", "leaf >= 2 * depth", "trees * rate <= 25"]


def trees_excess(p):
    return [math.log10(p["trees"] * p["depth"] / 1200), math.log10(2 * p["depth"] / p["leaf"]), math.log10(p["trees"] * p["rate"] / 25)]


FUNCTIONS = {
    "branin_sum": constrained(functions.SINGLE["branin"].space, functions.of_vector(functions.branin),
                              2.385958680272992, [3.081709795847, 0.918290204153],
                              ["x0 + x1 <= 4"], lambda p: [p["x0"] + p["x1"] - 4], ["x0 + x1 <= 4"]),
    "hartmann6_order": constrained(functions.cube(6, 0.0, 1.0), functions.of_vector(lambda x: functions.hartmann(x, functions.HARTMANN6)),
                                   -3.091318990465145, [0.18225565129] * 2 + [0.3092368343] * 3 + [0.661388720578], ORDER, lambda p: [a - b for a, b in zip(vector(p), vector(p)[1:])], ORDER),
    "mixture8": constrained(functions.cube(8, 0.0, 1.0), mixture, 0.0, MIXTURE, [f"{TOTAL} <= 1"],
                            lambda p: [math.fsum(vector(p)) - 1], [f"{TOTAL} <= 1"]),
    "mixed_network": constrained(functions.MIXED, functions.mixed, 0.0, functions.MIXED_AT, NETWORK, network_excess),
    "boosting_budget": constrained(functions.BOOSTING, functions.boosting, 0.02160497446342058,
                                   {"trees": 200, "rate": 0.125, "depth": 6, "leaf": 16}, TREES, trees_excess),
}


def drive(search, function, evaluations, soft=False):
    """The curve of [evaluations, regret] of what is allowed, and how many were not."""
    best, curve, exceeded = math.inf, [], 0
    for number in range(1, evaluations + 1):
        handle, params = search.ask()
        value, excess = function.truth(params), function.excess(params)
        # As much as sums of decimals err.
        if max(excess) > 1e-9:
            exceeded += 1
            if not soft:
                raise Forbidden(f"{params} exceeds a constraint by {max(excess)}")
        elif value < best:
            best = value
            curve.append([number, function.regret(params)])
        if soft:
            search.tell(handle, value, excess)
        else:
            search.tell(handle, value)
    return {"curve": curve, "exceeded": exceeded}


def check():
    for name, function in FUNCTIONS.items():
        assert functions.pruned(function.space, function.at) == function.at, name
        assert max(function.excess(function.at)) <= 1e-9, (name, function.excess(function.at))
        assert abs(function.truth(function.at) - function.minimum) < 1e-6, (name, function.truth(function.at))


if __name__ == "__main__":
    check()
    print(f"{len(FUNCTIONS)} functions with constraints: as they should be")
