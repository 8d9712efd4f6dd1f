"""How far a sample of a constrained space is from even, and the samplers of NumPy, BoTorch and Ax; runs within the peers'
environment.

Every coordinate is its rank in an exact sample, so that what is narrow counts as much as what is wide. Two distances of a
sample from an exact one: the energy distance (Székely and Rizzo, J. Stat. Plan. Inference 143, 2013) of whole points, and
the greatest of Kolmogorov's distances of each coordinate, of the sum of all, and of the difference of each to the next.
Both are divided by what they are in the mean for exact samples of the same size: about 1 is as even as can be told.
"""
import functools, importlib.metadata, time, warnings

import numpy

import search_exact, search_families as families

# Exact points for ranks, for distances, and exact samples that say what chance does.
RANKED, COMPARED, CHANCE = 20_000, 4_000, 100
# Of them the quantile that is given as chance's bound.
QUANTILE = 0.99
# BoTorch's sampler by triangulation takes time and memory that grow exponentially with the dimensions.
MOST_TRIANGULATED = 6


def ranks(column, ordered):
    """Shares in [0, 1]; equal values have the middle of theirs, inactive ones the middle of all."""
    low, high = (numpy.searchsorted(ordered, column, side) for side in ("left", "right"))
    return numpy.where(numpy.isnan(column), 0.5, (low + high) / 2 / max(len(ordered), 1))


class Judge:
    """`size` points of a family at a time."""

    def __init__(self, family, size):
        self.family, self.size = family, size
        reference = search_exact.exact(family, RANKED, 1)
        self.ordered = [numpy.sort(column[~numpy.isnan(column)]) for column in reference.T]
        self.points = self.encoded(search_exact.exact(family, COMPARED, 2))
        self.itself = mean_distance(self.points, self.points)
        self.features = numpy.sort(self.of_features(self.points), axis=0)
        chance = [self.distances(search_exact.exact(family, size, 100 + seed)) for seed in range(CHANCE)]
        self.means = numpy.mean(chance, axis=0)
        self.bounds = numpy.quantile(chance / self.means, QUANTILE, axis=0)

    def encoded(self, x):
        """Ranks; of a choice a column for each value, so that any two of them are as far apart."""
        columns = []
        for parameter, column, ordered in zip(self.family.space, x.T, self.ordered):
            if parameter.choices:
                columns += [(column == k) / 2**0.5 for k in range(len(parameter.choices))]
            else:
                columns.append(ranks(column, ordered))
        return numpy.stack(columns, axis=1)

    @staticmethod
    def of_features(points):
        return numpy.concatenate([points, points.sum(axis=1, keepdims=True), numpy.diff(points, axis=1)], axis=1)

    def distances(self, x):
        """Of whole points, and of the worst feature."""
        points = self.encoded(x)
        energy = 2 * mean_distance(points, self.points) - mean_distance(points, points) - self.itself
        worst = max(kolmogorov(a, b) for a, b in zip(numpy.sort(self.of_features(points), axis=0).T, self.features.T))
        return energy, worst

    def judge(self, x):
        return [float(found) for found in self.distances(x) / self.means]


def mean_distance(a, b):
    squares = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1)[None, :] - 2 * a @ b.T
    return float(numpy.sqrt(numpy.maximum(squares, 0.0)).mean())


def kolmogorov(a, b):
    """Of two sorted samples."""
    every = numpy.concatenate([a, b])
    below = [numpy.searchsorted(sample, every, "right") / len(sample) for sample in (a, b)]
    return numpy.abs(below[0] - below[1]).max()


@functools.lru_cache(maxsize=1)
def judge(name, decade, size):
    return Judge(families.FAMILIES[name][decade], size)


# ------------------------------------------------------------------------------------------------------------ samplers


def polytope(family):
    """Bounds, and A x <= b, as tensors."""
    import torch
    bounds = torch.tensor([[p.low for p in family.space], [p.high for p in family.space]], dtype=torch.double)
    rows = torch.tensor([row for row, _ in family.linear], dtype=torch.double)
    return bounds, (rows, torch.tensor([[bound] for _, bound in family.linear], dtype=torch.double))


def hit_and_run(family, size, seed):
    """Their class with its defaults: 200 steps first, then every 20th."""
    from botorch.utils.sampling import HitAndRunPolytopeSampler
    bounds, rows = polytope(family)
    return HitAndRunPolytopeSampler(inequality_constraints=rows, bounds=bounds, seed=seed).draw(size).numpy()


def polytope_samples(family, size, seed):
    """Their function with its defaults: 10,000 steps first, then every 32nd."""
    import torch
    from botorch.utils.sampling import get_polytope_samples
    bounds, (rows, limits) = polytope(family)
    every = torch.arange(len(family.space))
    constraints = [(every, -row, -float(limit)) for row, limit in zip(rows, limits)]
    return get_polytope_samples(size, bounds, inequality_constraints=constraints, seed=seed).numpy()


def triangulation(family, size, seed):
    import torch
    from botorch.utils.sampling import DelaunayPolytopeSampler
    if len(family.space) > MOST_TRIANGULATED:
        raise ValueError(f"not tried with more than {MOST_TRIANGULATED} dimensions")
    bounds, rows = polytope(family)
    torch.manual_seed(seed)
    sampler = DelaunayPolytopeSampler(inequality_constraints=rows, bounds=bounds)
    return sampler.draw(size, seed=seed).numpy()


def ax(family, size, seed, kind):
    """Ax's generator: throwing away, and hit-and-run where that finds too little."""
    import logging

    from ax.core.search_space import SearchSpaceDigest
    from ax.generators.random.sobol import SobolGenerator
    from ax.generators.random.uniform import UniformGenerator
    logging.disable(logging.WARNING)
    digest = SearchSpaceDigest([p.name for p in family.space], [(p.low, p.high) for p in family.space])
    made = {"sobol": SobolGenerator, "uniform": UniformGenerator}[kind](seed=seed, deduplicate=False)
    rows = numpy.array([row for row, _ in family.linear]), numpy.array([[bound] for _, bound in family.linear])
    return made.gen(size, digest, linear_constraints=rows)[0]


SAMPLERS = {
    "exact": (search_exact.exact, "numpy"), "rejection": (search_exact.rejection, "numpy"),
    "botorch_hit-and-run": (hit_and_run, "botorch"), "botorch_get_polytope_samples": (polytope_samples, "botorch"),
    "botorch_delaunay": (triangulation, "botorch"),
    "ax_sobol": (functools.partial(ax, kind="sobol"), "ax-platform"),
    "ax_uniform": (functools.partial(ax, kind="uniform"), "ax-platform"),
}


def rows(family, points):
    """Configurations as a sample."""
    def number(parameter, params):
        if parameter.name not in params:
            return numpy.nan
        return parameter.choices.index(params[parameter.name]) if parameter.choices else params[parameter.name]

    return numpy.array([[number(parameter, params) for parameter in family.space] for params in points], dtype=float)


def answer(job):
    """Judges the points that come with the job, or those of a sampler."""
    warnings.filterwarnings("ignore")
    family = families.FAMILIES[job["function"]][job["decade"]]
    outcome = {}
    if "points" in job:
        x = rows(family, job["points"])
    else:
        sampler, package = SAMPLERS[job["method"]]
        begin = time.process_time()
        x = numpy.asarray(sampler(family, job["size"], job["seed"]), dtype=float)
        outcome |= {"cpu_s": time.process_time() - begin, "version": importlib.metadata.version(package)}
    if len(x) != job["size"]:
        return {"error": f"{len(x)} points instead of {job['size']}"}
    known = judge(job["function"], job["decade"], job["size"])
    energy, worst = known.judge(x)
    # What is on an edge may be beyond it by an error of rounding.
    return outcome | {"energy": energy, "worst": worst, "bounds": [float(bound) for bound in known.bounds],
                      "share": search_exact.share(family), "distinct": len(numpy.unique(x, axis=0)),
                      "forbidden": int((~search_exact.allowed(family, x)).sum())}
