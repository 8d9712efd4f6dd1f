#!/usr/bin/env python3
"""Constrained spaces of which an even sample is known exactly, whatever share of the space is left. Standard library only.

A family is a space at several shares: its text for ours, and `exact`, the name of a sampler in search_exact.py and its
arguments. `linear` has the rows (coefficients, bound) of A x <= b for those who take nothing else.
"""
import math
from dataclasses import dataclass, field

from search_functions import choice, double, whole

# About one in 10 to so many is allowed, in each family.
DECADES = (1, 3, 6, 9)


@dataclass(frozen=True)
class Family:
    """`share` of the draws of the whole space are allowed; None where search_exact.py counts it."""
    space: list
    constraints: list
    share: float
    exact: tuple
    linear: list = field(default_factory=list)

    def document(self):
        """As `coordinatorctl preview` reads it."""
        return {"hyperparameters": {parameter.name: parameter.spec() for parameter in self.space},
                "constraints": self.constraints, "searcher": {"name": "random"}}


def units(count):
    return [double(f"x{i}", 0.0, 1.0) for i in range(count)]


def added(names):
    return " + ".join(names)


def row(count, ones):
    """Coefficients of so many columns: those of `ones`, otherwise nothing."""
    return [ones.get(i, 0.0) for i in range(count)]


# -------------------------------------------------------------------------------------------------------------- linear


def simplex(count, share):
    """A sum with a bound, of at most 1, so that no other bound cuts into it."""
    bound = (share * math.factorial(count)) ** (1 / count)
    assert bound <= 1
    text = f"{added(f'x{i}' for i in range(count))} <= {bound!r}"
    return Family(units(count), [text], bound**count / math.factorial(count), ("simplex", count, bound), [([1.0] * count, bound)])


def order(count):
    names = [(f"x{i}", f"x{i + 1}") for i in range(count - 1)]
    rows = [(row(count, {i: 1.0, i + 1: -1.0}), 0.0) for i in range(count - 1)]
    return Family(units(count), [f"{a} <= {b}" for a, b in names], 1 / math.factorial(count), ("order", count), rows)


def sums(count, width):
    """A sum within a narrow band, and a second one of weights: a mixture with a bound on what it costs."""
    total, cost = added(f"x{i}" for i in range(count)), added(f"{i + 1} * x{i}" for i in range(count))
    texts = [f"1 <= {total} <= {1 + width!r}", f"{cost} <= {(count + 1) / 2!r}"]
    rows = [([1.0] * count, 1 + width), ([-1.0] * count, -1.0), ([i + 1.0 for i in range(count)], (count + 1) / 2)]
    return Family(units(count), texts, None, ("sums", count, width), rows)


# ------------------------------------------------------------------------------------------ several parts, several kinds

# Of each part of the union: its weight, where it begins in the unit cube, and how its sides compare.
PARTS = [(0.5, (0.05, 0.55, 0.50), (0.9, 1.0, 1 / 0.9)), (0.3, (0.60, 0.05, 0.10), (1.0, 1 / 0.8, 0.8)),
         (0.2, (0.60, 0.60, 0.60), (1.2, 1 / 1.2, 1.0))]
UNION = [double("x", 0.0, 1.0), double("y", 0.0, 1000.0), double("z", 1e-4, 1.0, log=True)]


def value(parameter, unit):
    if parameter.log:
        return parameter.low * (parameter.high / parameter.low) ** unit
    return parameter.low + unit * (parameter.high - parameter.low)


def boxes(share):
    """(lower, upper) corner of each part in the unit cube."""
    made = []
    for weight, low, shape in PARTS:
        side = (weight * share) ** (1 / 3)
        made.append((list(low), [a + side * b for a, b in zip(low, shape)]))
    return made


def union(share):
    made = boxes(share)
    text = " or ".join(" and ".join(
        f"{value(parameter, a)!r} <= {parameter.name} <= {value(parameter, b)!r}" for parameter, a, b in zip(UNION, *box)) for box in made)
    return Family(UNION, [text], share, ("union", made))


def both_ways(count):
    """Ascending or descending: two parts of one size, neither of them a box."""
    up, down = ([f"x{i} {sign} x{i + 1}" for i in range(count - 1)] for sign in ("<=", ">="))
    return Family(units(count), [" and ".join(up) + " or " + " and ".join(down)], 2 / math.factorial(count), ("both_ways", count))


def mixed(numbers, parts, bound):
    """Whole numbers on a logarithmic scale that ascend, doubles with a bound on their sum, and a choice that ties both."""
    ascending, amounts = [f"n{i}" for i in range(numbers)], [f"x{i}" for i in range(parts)]
    space = [whole(name, 1, 4096, log=True) for name in ascending] + [double(name, 0.0, 1.0) for name in amounts]
    space.append(choice("kind", ["a", "b", "c", "d"]))
    texts = [f"{a} < {b}" for a, b in zip(ascending, ascending[1:])] + [f"{added(amounts)} <= {bound!r}"]
    texts += ["kind != 'b' or x0 <= x1", f"kind != 'c' or n{numbers - 1} >= 512"]
    return Family(space, texts, None, ("mixed", numbers, parts, bound))


def conditional(share):
    """Each choice has hyperparameters of its own, and a constraint on them; what is allowed is as large for all, about."""
    near, slope = math.sqrt(2.4 * share), 2.1 * share
    total = round((6 * 0.75e9 * share) ** (1 / 3)) - 2
    total = max(total, 0)
    space = [choice("kind", ["sum", "ratio", "count"]), double("common", 1e-3, 1.0, log=True),
             double("u", 0.0, 1.0, when={"kind": ["sum"]}), double("v", 0.0, 1.0, when={"kind": ["sum"]}),
             double("p", 0.0, 1.0, when={"kind": ["ratio"]}), double("q", 0.0, 1.0, when={"kind": ["ratio"]})]
    space += [whole(name, 0, 999, when={"kind": ["count"]}) for name in "ijk"]
    texts = [f"u + v <= {near!r}", f"p <= {slope!r} * q", f"i + j + k <= {total}"]
    shares = [near * near / 2, slope / 2, math.comb(total + 3, 3) / 1e9]
    return Family(space, texts, sum(shares) / 3, ("conditional", near, slope, total, shares))


def equality(count, total):
    """Whole parts of a whole, and a double that nothing binds."""
    names = [f"n{i}" for i in range(count)]
    space = [whole(name, 0, total) for name in names] + [double("x", 0.0, 1.0)]
    share = math.comb(total + count - 1, count - 1) / (total + 1) ** count
    return Family(space, [f"{added(names)} == {total}"], share, ("equality", count, total))


FAMILIES = {
    "simplex": [simplex(3, 0.1), simplex(6, 1e-3), simplex(9, 1e-6), simplex(12, 1e-9)],
    "order": [order(3), order(6), order(10), order(12)],
    "sums": [sums(3, 0.7), sums(5, 0.05), sums(8, 0.01), sums(10, 7e-4)],
    "union": [union(0.1), union(1e-3), union(1e-6), union(1e-9)],
    "both ways": [both_ways(4), both_ways(7), both_ways(10), both_ways(12)],
    "mixed": [mixed(2, 2, 0.8), mixed(3, 4, 0.75), mixed(5, 7, 1.0), mixed(6, 9, 0.95)],
    "conditional": [conditional(0.1), conditional(1e-3), conditional(1e-6), conditional(1e-9)],
    "equality": [equality(2, 9), equality(5, 60), equality(8, 100), equality(12, 60)],
}
