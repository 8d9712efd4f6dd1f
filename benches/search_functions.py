#!/usr/bin/env python3
"""Functions to search, all of them to be minimized, with known minima. Standard library only.

Each defines its space once; the search.yaml of ours and the suggestions of the peers follow from it. Noise is a pure
function of (seed, configuration, resource) through splitmix64, so that every implementation sees the same numbers.
Run as a program it checks golden values and that each minimum is reached where it is said to be.
"""
import functools, itertools, math, struct
from dataclasses import dataclass, field
from typing import Callable

MASK = (1 << 64) - 1


def splitmix64(z):
    z = (z + 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


class Noise:
    """Draws that depend on these numbers and on nothing else."""

    def __init__(self, seed, values, resource):
        self.state, self.drawn = splitmix64(seed & MASK), 0
        for value in values:
            # Adding 0.0 makes one zero of the two.
            self.state = splitmix64(self.state ^ struct.unpack("<Q", struct.pack("<d", float(value) + 0.0))[0])
        self.state = splitmix64(self.state ^ (int(resource) & MASK))

    def unit(self):
        self.drawn += 1
        return (splitmix64((self.state + self.drawn) & MASK) >> 11) * 2.0**-53

    def normal(self):
        radius = math.sqrt(-2 * math.log(1 - self.unit()))
        return radius * math.cos(2 * math.pi * self.unit())


# ------------------------------------------------------------------------------------------------------------- spaces


@dataclass(frozen=True)
class Parameter:
    """`kind` is double, int or categorical; `when` has the values of each parent with which it is active."""
    name: str
    kind: str
    low: float = 0
    high: float = 1
    log: bool = False
    choices: tuple = ()
    when: dict = field(default_factory=dict)

    def active(self, params):
        return all(params.get(parent) in values for parent, values in self.when.items())

    def spec(self):
        """As in the `hyperparameters` of a search.yaml."""
        spec = {"type": self.kind}
        spec |= {"vals": list(self.choices)} if self.choices else {"minval": self.low, "maxval": self.high, "log": self.log}
        return spec | ({"when": {parent: list(values) for parent, values in self.when.items()}} if self.when else {})


def double(name, low, high, log=False, when={}):
    return Parameter(name, "double", low, high, log, when=when)


def whole(name, low, high, log=False, when={}):
    return Parameter(name, "int", low, high, log, when=when)


def choice(name, choices, when={}):
    return Parameter(name, "categorical", choices=tuple(choices), when=when)


def cube(dimensions, low, high):
    return [double(f"x{i}", low, high) for i in range(dimensions)]


def suggested(space, pick, flat=False):
    """A configuration: `pick` gives the value of each active parameter, of all of them if `flat`."""
    params = {}
    for parameter in space:
        if flat or parameter.active(params):
            params[parameter.name] = pick(parameter)
    return params


def pruned(space, params):
    """Without what is inactive."""
    return suggested(space, lambda parameter: params[parameter.name])


@dataclass(frozen=True)
class Function:
    """`observe(params, resource, seed)` is what a search sees, `truth(params)` what it is judged by. `rungs` are the
    resources at which a trial reports, the last of them the whole; a function without fidelities has one."""
    space: list
    observe: Callable
    truth: Callable
    minimum: float
    at: dict
    rungs: tuple = (1,)

    def regret(self, params):
        return max(self.truth(params) - self.minimum, 0.0)

    def conditional(self):
        return any(parameter.when for parameter in self.space)

    def continuous(self):
        return all(parameter.kind == "double" for parameter in self.space)


def exact(space, f, minimum, at):
    """One that is seen as it is."""
    at = at if isinstance(at, dict) else {f"x{i}": x for i, x in enumerate(at)}
    return Function(space, lambda params, _resource, _seed: f(params), f, minimum, at)


def of_vector(f):
    return lambda params: f([params[f"x{i}"] for i in range(len(params))])


# ---------------------------------------------------------------------------------------------- continuous, noiseless


def branin(x):
    b, c, t = 5.1 / (4 * math.pi**2), 5 / math.pi, 1 / (8 * math.pi)
    return (x[1] - b * x[0] * x[0] + c * x[0] - 6) ** 2 + 10 * (1 - t) * math.cos(x[0]) + 10


HARTMANN_WEIGHTS = [1.0, 1.2, 3.0, 3.2]
HARTMANN6 = ([[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]],
             [[1312, 1696, 5569, 124, 8283, 5886], [2329, 4135, 8307, 3736, 1004, 9991],
              [2348, 1451, 3522, 2883, 3047, 6650], [4047, 8828, 8732, 5743, 1091, 381]])
HARTMANN3 = ([[3.0, 10, 30], [0.1, 10, 35], [3.0, 10, 30], [0.1, 10, 35]],
             [[3689, 1170, 2673], [4699, 4387, 7470], [1091, 8732, 5547], [381, 5743, 8828]])
HARTMANN6_AT = [0.20168952, 0.15001069, 0.47687398, 0.27533243, 0.31165162, 0.65730054]
HARTMANN6_MINIMUM = -3.322368011415515
HARTMANN3_AT = [0.114614, 0.555649, 0.852547]
HARTMANN3_MINIMUM = -3.862779787332663


def hartmann(x, shape, weights=HARTMANN_WEIGHTS):
    return -sum(weight * math.exp(-sum(a * (v - 1e-4 * p) ** 2 for a, v, p in zip(scales, x, centre)))
                for weight, scales, centre in zip(weights, *shape))


def ackley(x):
    square, cosine = sum(v * v for v in x) / len(x), sum(math.cos(2 * math.pi * v) for v in x) / len(x)
    return 20 - 20 * math.exp(-0.2 * math.sqrt(square)) + math.e - math.exp(cosine)


def levy(x):
    w = [1 + (v - 1) / 4 for v in x]
    middle = sum((v - 1) ** 2 * (1 + 10 * math.sin(math.pi * v + 1) ** 2) for v in w[:-1])
    return math.sin(math.pi * w[0]) ** 2 + middle + (w[-1] - 1) ** 2 * (1 + math.sin(2 * math.pi * w[-1]) ** 2)


def rosenbrock(x):
    return sum(100 * (b - a * a) ** 2 + (1 - a) ** 2 for a, b in zip(x, x[1:]))


def rastrigin(x):
    return sum(v * v - 10 * math.cos(2 * math.pi * v) + 10 for v in x)


def schwefel(x):
    return sum(418.982887272433799 - v * math.sin(math.sqrt(abs(v))) for v in x)


def styblinski_tang(x):
    return sum(v**4 - 16 * v * v + 5 * v for v in x) / 2


def griewank(x):
    return sum(v * v for v in x) / 4000 - math.prod(math.cos(v / math.sqrt(i + 1)) for i, v in enumerate(x)) + 1


def camel(x):
    return (4 - 2.1 * x[0] ** 2 + x[0] ** 4 / 3) * x[0] ** 2 + x[0] * x[1] + (4 * x[1] ** 2 - 4) * x[1] ** 2


# ----------------------------------------------------------------------------- of several kinds, and with conditions

MIXED = [double("lr", 1e-5, 1.0, log=True), double("wd", 1e-6, 1e-1, log=True), whole("layers", 1, 8),
         choice("opt", ["sgd", "momentum", "adam", "rmsprop"]),
         double("momentum", 0.0, 0.99, when={"opt": ["momentum"]}),
         double("one_minus_beta2", 1e-4, 1e-1, log=True, when={"opt": ["adam"]})]
MIXED_AT = {"lr": 10**-3.1, "wd": 1e-4, "layers": 5, "opt": "adam", "one_minus_beta2": 1e-3}


def mixed(p):
    """As the loss of a network: the best learning rate depends on the optimizer, the layers and the weight decay."""
    rate, decay = math.log10(p["lr"]), math.log10(p["wd"])
    floor, centre, extra = {"sgd": (0.10, -1.0, 0.0), "momentum": (0.03, -1.0, 0.0), "adam": (0.0, -3.0, 0.0),
                            "rmsprop": (0.05, -3.3, 0.0)}[p["opt"]]
    if p["opt"] == "momentum":
        centre, extra = centre + math.log10(1 - p["momentum"]), 0.2 * (p["momentum"] - 0.9) ** 2
    elif p["opt"] == "adam":
        extra = 0.05 * (math.log10(p["one_minus_beta2"]) + 3) ** 2
    off = rate - (centre - 0.1 * (p["layers"] - 4))
    distance = (off / 0.8) ** 2 + ((decay + 4 + 0.5 * off) / 1.5) ** 2 + ((p["layers"] - 5) / 3) ** 2
    return floor + extra + 1 - math.exp(-distance)


BOOSTING = [whole("trees", 10, 1000, log=True), double("rate", 1e-3, 1.0, log=True), whole("depth", 1, 16),
            whole("leaf", 1, 256, log=True)]
BOOSTING_AT = {"trees": 300, "rate": 0.1, "depth": 6, "leaf": 16}


def boosting(p):
    """As the loss of boosted trees: more trees want a smaller rate; whole numbers, some of them on a logarithmic scale."""
    trees, rate, leaf = math.log10(p["trees"]), math.log10(p["rate"]), math.log2(p["leaf"])
    along, across = trees - math.log10(300), trees + rate - math.log10(30)
    distance = 2 * across**2 + 0.3 * along**2 + ((p["depth"] - 6) / 4) ** 2 + ((leaf - 4 - 0.5 * (p["depth"] - 6)) / 4) ** 2
    return 1 - math.exp(-distance) + 0.02 * (p["depth"] % 2)


CHOICES = [choice(f"c{i}", "abcdef"[:n]) for i, n in enumerate((5, 4, 4, 4, 3, 3, 2))]


def choices(p):
    """Categories alone: an effect of each choice and smaller ones of each pair, drawn once."""
    chosen = [(i, ord(p[f"c{i}"])) for i in range(len(CHOICES))]
    alone = sum(Noise(1, one, 0).unit() for one in chosen)
    return alone + 0.5 * sum(Noise(2, a + b, 0).unit() for a, b in itertools.combinations(chosen, 2))


@functools.cache
def best_choices():
    every = itertools.product(*(parameter.choices for parameter in CHOICES))
    return min((dict(zip((parameter.name for parameter in CHOICES), chosen)) for chosen in every), key=choices)


NESTED = [choice("model", ["linear", "svm", "forest", "network"]),
          double("penalty", 1e-4, 1e3, log=True, when={"model": ["linear", "svm"]}),
          choice("kernel", ["rbf", "poly"], when={"model": ["svm"]}),
          double("gamma", 1e-5, 1e1, log=True, when={"kernel": ["rbf"]}),
          whole("degree", 2, 6, when={"kernel": ["poly"]}),
          whole("trees", 10, 1000, log=True, when={"model": ["forest"]}),
          whole("leaf", 1, 64, log=True, when={"model": ["forest"]}),
          choice("opt", ["sgd", "adam"], when={"model": ["network"]}),
          double("lr", 1e-5, 1.0, log=True, when={"model": ["network"]}),
          double("momentum", 0.0, 0.99, when={"opt": ["sgd"]}),
          whole("units", 8, 512, log=True, when={"model": ["network"]})]
NESTED_AT = {"model": "svm", "penalty": 10.0, "kernel": "rbf", "gamma": 1e-2}


def nested(p):
    """Choosing a model: conditions within conditions. The best branch has a narrow valley, the second best a broad one."""
    log = {name: math.log10(value) for name, value in p.items() if not isinstance(value, str) and value > 0}
    if p["model"] == "linear":
        return 0.35 + 0.02 * (log["penalty"] - 0) ** 2
    if p["model"] == "forest":
        return 0.12 + 0.03 * (log["trees"] - 2.7) ** 2 + 0.05 * (log["leaf"] - 0.5) ** 2
    if p["model"] == "network":
        centre, extra = (-2.8, 0.0) if p["opt"] == "adam" else (-1.5 + math.log10(1 - p["momentum"]) / 2, 0.03)
        distance = ((log["lr"] - centre) / 1.0) ** 2 + ((log["units"] - 2) / 1.0) ** 2
        return 0.05 + extra + 0.5 * (1 - math.exp(-distance))
    if p["kernel"] == "poly":
        return 0.2 + 0.03 * (p["degree"] - 3) ** 2 + 0.02 * (log["penalty"] - 1) ** 2
    distance = ((log["gamma"] + 2) / 0.6) ** 2 + ((log["penalty"] - 1 + 0.5 * (log["gamma"] + 2)) / 1.2) ** 2
    return 0.6 * (1 - math.exp(-distance))


# -------------------------------------------------------------------------------------------- noisy, several fidelities

COUNTING = [choice(f"c{i}", [0, 1]) for i in range(8)] + cube(8, 0.0, 1.0)


def counting_truth(p):
    return -float(sum(p.values()))


def counting(p, draws, seed=0):
    """Counting ones (Falkner et al. 2018, section 5.1): each x is seen as the mean of so many coin throws."""
    ones, chances = [p[name] for name in p if name[0] == "c"], [p[name] for name in p if name[0] == "x"]
    noise, total = Noise(seed, ones + chances, draws), float(sum(ones))
    for chance in chances:
        total += sum(noise.unit() < chance for _ in range(int(draws))) / int(draws)
    return -total


def biased_hartmann(x, shape, resource, whole, bias, scale, seed=0):
    """Hartmann's function with fidelities as in mf-prior-bench: the weights are off and noise is added, the more the
    smaller the resource."""
    share = math.log(resource) / math.log(whole)
    value = hartmann(x, shape, [weight - bias * (1 - share) for weight in HARTMANN_WEIGHTS])
    if share < 1:
        value += abs(Noise(seed, x, resource).normal()) * scale * (1 - share)
    return value


def geometric(first, last):
    rungs = [first]
    while rungs[-1] * 3 <= last:
        rungs.append(rungs[-1] * 3)
    return tuple(rungs)


def fidelity_hartmann(dimensions, shape, bias, scale, minimum, at):
    def observe(params, resource, seed):
        x = [params[f"x{i}"] for i in range(dimensions)]
        return biased_hartmann(x, shape, resource, 81, bias, scale, seed)
    truth = of_vector(functools.partial(hartmann, shape=shape))
    return Function(cube(dimensions, 0.0, 1.0), observe, truth, minimum, {f"x{i}": x for i, x in enumerate(at)}, geometric(1, 81))


def learning_curve(p, epochs, seed):
    """`mixed` as the end of a learning curve: it falls the later the smaller the learning rate is, so that curves cross;
    a little noise before the end."""
    share = math.log(epochs) / math.log(81)
    slowness = 0.5 + min(max(-math.log10(p["lr"]) / 5, 0), 1)
    numbers = [value for value in p.values() if not isinstance(value, str)]
    noise = 0.05 * (1 - share) * Noise(seed, numbers, epochs).normal()
    return mixed(p) + 1.2 * slowness * (1 - share) ** (2 - slowness) + noise


SINGLE = {
    "branin": exact([double("x0", -5.0, 10.0), double("x1", 0.0, 15.0)], of_vector(branin), 0.39788735772973816, [math.pi, 2.275]),
    "hartmann6": exact(cube(6, 0.0, 1.0), of_vector(lambda x: hartmann(x, HARTMANN6)), HARTMANN6_MINIMUM, HARTMANN6_AT),
    "mixed": exact(MIXED, mixed, 0.0, MIXED_AT),
    "counting8+8": Function(COUNTING, lambda p, _resource, _seed: counting(p, 729), counting_truth, -16.0,
                            {parameter.name: 1 for parameter in COUNTING}),
    "ackley5": exact(cube(5, -15.0, 30.0), of_vector(ackley), 0.0, [0] * 5),
    "levy4": exact(cube(4, -10.0, 10.0), of_vector(levy), 0.0, [1] * 4),
    "rosenbrock4": exact(cube(4, -5.0, 10.0), of_vector(rosenbrock), 0.0, [1] * 4),
    "styblinski5": exact(cube(5, -5.0, 5.0), of_vector(styblinski_tang), -5 * 39.16616570377142, [-2.903534] * 5),
    "hartmann3": exact(cube(3, 0.0, 1.0), of_vector(lambda x: hartmann(x, HARTMANN3)), HARTMANN3_MINIMUM, HARTMANN3_AT),
    # Not from -5.12 to 5.12: the middle of the space would be the minimum.
    "rastrigin4": exact(cube(4, -4.0, 6.0), of_vector(rastrigin), 0.0, [0] * 4),
    "schwefel4": exact(cube(4, -500.0, 500.0), of_vector(schwefel), 0.0, [420.96874635998205] * 4),
    "griewank6": exact(cube(6, -300.0, 600.0), of_vector(griewank), 0.0, [0] * 6),
    "camel": exact([double("x0", -3.0, 3.0), double("x1", -2.0, 2.0)], of_vector(camel), -1.0316284534898774, [0.089842, -0.712656]),
    "boosting": exact(BOOSTING, boosting, 0.0, BOOSTING_AT),
    "choices": exact(CHOICES, choices, choices(best_choices()), best_choices()),
    "nested": exact(NESTED, nested, 0.0, NESTED_AT),
}

FIDELITY = {
    "mfh3_good": fidelity_hartmann(3, HARTMANN3, 2.5, 2.0, HARTMANN3_MINIMUM, HARTMANN3_AT),
    "mfh3_bad": fidelity_hartmann(3, HARTMANN3, 3.5, 4.0, HARTMANN3_MINIMUM, HARTMANN3_AT),
    "mfh6_good": fidelity_hartmann(6, HARTMANN6, 2.5, 2.0, HARTMANN6_MINIMUM, HARTMANN6_AT),
    "counting8+8": Function(COUNTING, counting, counting_truth, -16.0, {parameter.name: 1 for parameter in COUNTING},
                            geometric(9, 729)),
    "curves": Function(MIXED, learning_curve, mixed, 0.0, MIXED_AT, geometric(1, 81)),
}


def check():
    """Golden values that any other implementation of the protocol has, too; and the minima."""
    golden = [
        (splitmix64(0), 0xE220A8397B1DCDAF),
        (splitmix64(1), 0x910A2DEC89025CC1),
        (biased_hartmann([0.5, 0.25, 0.75], HARTMANN3, 9, 81, 2.5, 2.0, 7), 0.3648497380777588),
        (counting({"c0": 1, "c1": 0, "x0": 0.5, "x1": 0.25}, 9, 7), -1.6666666666666665),
        (mixed({"lr": 0.01, "wd": 1e-3, "layers": 3, "opt": "momentum", "momentum": 0.8}), 0.656618312870838),
        (branin([1.0, 2.0]), 21.62763539206238),
    ]
    for got, expected in golden:
        assert abs(got - expected) <= 1e-12 * abs(expected), (got, expected)
    for name, function in (SINGLE | FIDELITY).items():
        assert pruned(function.space, function.at) == function.at, name
        assert abs(function.truth(function.at) - function.minimum) < 1e-6, (name, function.truth(function.at))
        whole = function.observe(function.at, function.rungs[-1], 3)
        assert abs(whole - function.minimum) < 1e-6, (name, whole)


if __name__ == "__main__":
    check()
    print(f"{len(SINGLE)} functions of one fidelity and {len(FIDELITY)} of several: as they should be")
