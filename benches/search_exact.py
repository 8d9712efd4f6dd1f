"""Even samples of the families of search_families.py, in NumPy: exact ones by closed forms, and by throwing away draws of
the whole space. A sample has a row for each point: numbers as they are, choices by their place, nan where inactive."""
import math

import numpy

# Most draws at once.
BLOCK = 200_000


def simplex(draw, size, count, bound):
    """Spacings of a sorted uniform sample, as normalized exponentials."""
    spacings = draw.exponential(size=(size, count + 1))
    return bound * spacings[:, :count] / spacings.sum(axis=1, keepdims=True)


def order(draw, size, count):
    return numpy.sort(draw.random((size, count)), axis=1)


def both_ways(draw, size, count):
    ascending = order(draw, size, count)
    turned = draw.random(size) < 0.5
    ascending[turned] = ascending[turned, ::-1]
    return ascending


def accepted(size, proposal):
    """Of what is proposed that which holds, until there is enough."""
    propose, holds, _ = proposal
    found, have = [], 0
    while have < size:
        block = propose(BLOCK // 10)
        block = block[holds(block)]
        found.append(block)
        have += len(block)
    return numpy.concatenate(found)[:size]


def sums(draw, size, count, width):
    return accepted(size, band(draw, count, width))


def band(draw, count, width):
    """The radius of a cone by its volume, a direction by a simplex's face; of these what is in the cube and cheap enough.
    What to propose, whether it holds, and the share of the whole space that is proposed."""
    def propose(block):
        face = draw.exponential(size=(block, count))
        face /= face.sum(axis=1, keepdims=True)
        radius = (1 + draw.random(block) * ((1 + width) ** count - 1)) ** (1 / count)
        return face * radius[:, None]

    def holds(x):
        return (x <= 1).all(axis=1) & (x @ numpy.arange(1, count + 1) <= (count + 1) / 2)

    return propose, holds, ((1 + width) ** count - 1) / math.factorial(count)


def union(draw, size, boxes):
    import search_families as families
    lows, highs = (numpy.array([box[end] for box in boxes]) for end in (0, 1))
    volumes = (highs - lows).prod(axis=1)
    part = draw.choice(len(boxes), size=size, p=volumes / volumes.sum())
    unit = lows[part] + draw.random((size, 3)) * (highs - lows)[part]
    return numpy.stack([from_unit(parameter, unit[:, i]) for i, parameter in enumerate(families.UNION)], axis=1)


def mixed(draw, size, numbers, parts, bound):
    return accepted(size, kinds(draw, numbers, parts, bound))


def kinds(draw, numbers, parts, bound):
    """The whole numbers sorted, where all differ; the choice's own conditions by throwing away."""
    import search_families as families
    space = families.mixed(numbers, parts, bound).space

    def propose(block):
        ascending = numpy.sort(from_unit(space[0], draw.random((block, numbers))), axis=1)
        kind = draw.integers(4, size=(block, 1))
        return numpy.concatenate([ascending, simplex(draw, block, parts, bound), kind], axis=1)

    def holds(x):
        kind = x[:, -1]
        ascends = (numpy.diff(x[:, :numbers], axis=1) > 0).all(axis=1)
        return ascends & ((kind != 1) | (x[:, numbers] <= x[:, numbers + 1])) & ((kind != 2) | (x[:, numbers - 1] >= 512))

    return propose, holds, bound**parts / math.factorial(parts) / math.factorial(numbers)


def conditional(draw, size, near, slope, total, shares):
    made = numpy.full((size, 9), numpy.nan)
    kind = draw.choice(3, size=size, p=numpy.array(shares) / sum(shares))
    made[:, 0], made[:, 1] = kind, 10 ** (-3 * draw.random(size))
    first, second, third = (numpy.flatnonzero(kind == k) for k in range(3))
    made[numpy.ix_(first, [2, 3])] = simplex(draw, len(first), 2, near)
    made[second, 5] = numpy.sqrt(draw.random(len(second)))
    made[second, 4] = draw.random(len(second)) * slope * made[second, 5]
    made[numpy.ix_(third, [6, 7, 8])] = compositions(draw, len(third), 4, total)[:, :3]
    return made


def compositions(draw, size, count, total):
    """Whole numbers of a given sum, all as likely: bars among stars."""
    bars = numpy.array([numpy.sort(draw.choice(total + count - 1, count - 1, replace=False)) for _ in range(size)])
    bars = bars.reshape(size, count - 1)
    ends = numpy.full((size, 1), total + count - 1)
    return numpy.diff(numpy.concatenate([numpy.full((size, 1), -1), bars, ends], axis=1), axis=1) - 1


def equality(draw, size, count, total):
    return numpy.concatenate([compositions(draw, size, count, total), draw.random((size, 1))], axis=1)


def exact(family, size, seed):
    name, *arguments = family.exact
    return globals()[name](numpy.random.default_rng(seed), size, *arguments)


# ------------------------------------------------------------------------------------------------ throwing draws away


def from_unit(parameter, unit):
    """The value at a place of the unit interval; whole numbers by the share of their cell."""
    if parameter.choices:
        return numpy.floor(unit * len(parameter.choices))
    if parameter.kind == "double":
        low, high = parameter.low, parameter.high
        return low * (high / low) ** unit if parameter.log else low + unit * (high - low)
    low, high = parameter.low - 0.5, parameter.high + 0.5
    return numpy.clip(numpy.rint(low * (high / low) ** unit if parameter.log else low + unit * (high - low)), parameter.low, parameter.high)


def allowed(family, x):
    """Whether each point meets the constraints, by the texts that ours is given."""
    columns = {parameter.name: x[:, i] for i, parameter in enumerate(family.space)}
    for parameter in family.space:
        if parameter.choices:
            columns[parameter.name] = numpy.array(parameter.choices)[x[:, family.space.index(parameter)].astype(int)]
    good = numpy.ones(len(x), dtype=bool)
    for text in family.constraints:
        applies = numpy.ones(len(x), dtype=bool)
        for i, parameter in enumerate(family.space):
            if parameter.when and parameter.name in text.replace("(", " ").split():
                applies &= ~numpy.isnan(x[:, i])
        good &= holds(text, columns) | ~applies
    return good


def holds(text, columns):
    """One of the texts of search_families.py, on columns: `or` of `and` of comparisons, also in chains."""
    either = False
    for part in text.split(" or "):
        every = True
        for comparison in part.split(" and "):
            every = every & chain(comparison, columns)
        either = either | every
    return either


def chain(text, columns):
    words = text.replace("<=", " \0<= ").replace(">=", " \0>= ").replace("==", " \0== ").replace("!=", " \0!= ")
    for sign in "<>":
        words = words.replace(f" {sign} ", f" \0{sign} ")
    first, *rest = words.split("\0")
    left, good = eval(first, {}, columns), True
    for link in rest:
        sign, _, side = link.partition(" ")
        right = eval(side, {}, columns)
        good = good & {"<=": numpy.less_equal, ">=": numpy.greater_equal, "==": numpy.equal, "!=": numpy.not_equal,
                       "<": numpy.less, ">": numpy.greater}[sign](left, right)
        left = right
    return good


def drawn(family, draw, size):
    """Draws of the whole space, with nan where inactive."""
    x = numpy.stack([from_unit(parameter, draw.random(size)) for parameter in family.space], axis=1)
    names = [parameter.name for parameter in family.space]
    for i, parameter in enumerate(family.space):
        for parent, values in parameter.when.items():
            at = names.index(parent)
            wanted = [family.space[at].choices.index(value) for value in values]
            x[~numpy.isin(x[:, at], wanted), i] = numpy.nan
    return x


def rejection(family, size, seed):
    draw = numpy.random.default_rng(seed)
    found, have = [], 0
    while have < size:
        block = drawn(family, draw, BLOCK if share(family) < 0.01 else 20 * size)
        found.append(block[allowed(family, block)])
        have += len(found[-1])
    return numpy.concatenate(found)[:size]


def share(family):
    """Of the draws of the whole space: known, or the share of what is proposed times that of it which holds."""
    if family.share:
        return family.share
    name, *arguments = family.exact
    propose, holds, proposed = {"sums": band, "mixed": kinds}[name](numpy.random.default_rng(0), *arguments)
    return float(holds(propose(BLOCK)).mean() * proposed)


def check():
    """What is exact meets the constraints, and is as what is left of the whole space where much is."""
    import search_families as families
    for name, every in families.FAMILIES.items():
        for family in every:
            assert allowed(family, exact(family, 2000, 1)).mean() > 0.999, (name, family.constraints)
        counted = allowed(every[0], drawn(every[0], numpy.random.default_rng(0), 5 * BLOCK)).mean()
        assert math.isclose(counted, share(every[0]), rel_tol=0.05), (name, counted, share(every[0]))


if __name__ == "__main__":
    check()
    print("even samples: as they should be")
