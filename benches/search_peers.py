"""The peers' side of benches/search.py: runs within their virtual environment, answers each line (what to run) by one
(what came of it). Each searcher is driven through its own ask-and-tell interface, with its own defaults."""
import importlib.metadata, json, math, os, sys, tempfile, warnings

import search_functions as functions
import search_protocol as protocol
from search_optuna import ETA, Optuna, OptunaRungs


class SyneTune:
    """Their asynchronous halving of the kind that stops, as by default."""

    def __init__(self, method, function, seed):
        import logging

        import numpy
        import syne_tune
        from syne_tune import config_space
        from syne_tune.optimizer import baselines
        warnings.filterwarnings("ignore")
        logging.disable(logging.WARNING)
        # It takes its brackets from the global source.
        numpy.random.seed(seed)
        self.space, self.version, self.whole, self.trials = function.space, syne_tune.__version__, function.rungs[-1], 0
        domains = {
            ("double", False): config_space.uniform, ("double", True): config_space.loguniform,
            ("int", False): config_space.randint, ("int", True): config_space.lograndint,
        }
        flat = {parameter.name: config_space.choice(list(parameter.choices)) if parameter.choices else
                domains[parameter.kind, parameter.log](parameter.low, parameter.high) for parameter in function.space}
        self.scheduler = {"asha": baselines.ASHA, "bohb": baselines.BOHB}[method](
            flat, metric="loss", time_attr="resource", max_t=function.rungs[-1], grace_period=function.rungs[0],
            reduction_factor=ETA, random_seed=seed)
        self.watch = protocol.Stopwatch()

    def ask(self):
        import datetime

        from syne_tune.backend.trial_status import Trial
        with self.watch:
            config = self.scheduler.suggest().config
            trial = Trial(trial_id=self.trials, config=config, creation_time=datetime.datetime.now())
            self.trials += 1
            self.scheduler.on_trial_add(trial)
        return trial, functions.pruned(self.space, config), 0, self.whole

    def report(self, trial, resource, value, last):
        result = {"loss": value, "resource": resource}
        with self.watch:
            if last:
                self.scheduler.on_trial_complete(trial, result)
                return False
            goes_on = self.scheduler.on_trial_result(trial, result) == "CONTINUE"
            if not goes_on:
                self.scheduler.on_trial_remove(trial)
        return goes_on


class Smac:
    """SMAC 3, its facade for hyperparameters: a random forest."""

    # A bound that no run of ours comes to; its initial design depends on it (10 for each parameter, a quarter at most).
    TRIALS = 200

    def __init__(self, _method, function, seed):
        import logging

        import ConfigSpace
        import smac
        logging.disable(logging.WARNING)
        warnings.filterwarnings("ignore")
        self.version, self.folder, self.told = importlib.metadata.version("smac"), tempfile.TemporaryDirectory(), smac.runhistory.TrialValue
        space = ConfigSpace.ConfigurationSpace(seed=seed)
        for parameter in function.space:
            if parameter.choices:
                space.add(ConfigSpace.CategoricalHyperparameter(parameter.name, list(parameter.choices)))
            else:
                kind = ConfigSpace.UniformIntegerHyperparameter if parameter.kind == "int" else ConfigSpace.UniformFloatHyperparameter
                space.add(kind(parameter.name, parameter.low, parameter.high, log=parameter.log))
        for parameter in function.space:
            for parent, values in parameter.when.items():
                space.add(ConfigSpace.InCondition(space[parameter.name], space[parent], list(values)))
        scenario = smac.Scenario(space, deterministic=True, n_trials=self.TRIALS, seed=seed, output_directory=self.folder.name)
        self.facade = smac.HyperparameterOptimizationFacade(scenario, lambda config, seed: 0.0, overwrite=True, logging_level=False)
        self.watch = protocol.Stopwatch()

    def ask(self):
        with self.watch:
            info = self.facade.ask()
        # NumPy's own types are none of Python's.
        return info, {name: value.item() if hasattr(value, "item") else value for name, value in dict(info.config).items()}

    def tell(self, info, value):
        with self.watch:
            self.facade.tell(info, self.told(cost=value, time=0.0))


class BoTorch:
    """SingleTaskGP with its priors and the logarithm of the expected improvement; 10 Sobol points first, 4 restarts.
    Continuous spaces only."""

    FIRST = 10

    def __init__(self, _method, function, seed):
        import botorch
        import torch
        warnings.filterwarnings("ignore")
        torch.manual_seed(seed)
        self.version, self.space, self.x, self.y, self.waiting = botorch.__version__, function.space, [], [], []
        self.first = torch.quasirandom.SobolEngine(len(function.space), scramble=True, seed=seed).draw(self.FIRST, dtype=torch.double)
        self.asked, self.watch = 0, protocol.Stopwatch()

    def propose(self):
        import torch
        from botorch.acquisition import LogExpectedImprovement, qLogExpectedImprovement
        from botorch.fit import fit_gpytorch_mll
        from botorch.models import SingleTaskGP
        from botorch.models.transforms import Standardize
        from botorch.optim import optimize_acqf
        from gpytorch.mlls import ExactMarginalLogLikelihood
        y = -torch.tensor(self.y, dtype=torch.double).unsqueeze(-1)
        model = SingleTaskGP(torch.stack(self.x), y, outcome_transform=Standardize(m=1))
        fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
        if self.waiting:
            acquisition = qLogExpectedImprovement(model, best_f=y.max(), X_pending=torch.stack(self.waiting))
        else:
            acquisition = LogExpectedImprovement(model, best_f=y.max())
        bounds = torch.tensor([[0.0], [1.0]], dtype=torch.double).repeat(1, len(self.space))
        return optimize_acqf(acquisition, bounds, q=1, num_restarts=4, raw_samples=256)[0][0]

    def ask(self):
        with self.watch:
            x = self.first[self.asked] if self.asked < self.FIRST else self.propose()
        self.asked += 1
        self.waiting.append(x)
        return x, {parameter.name: self.value(parameter, float(u)) for parameter, u in zip(self.space, x)}

    @staticmethod
    def value(parameter, unit):
        if parameter.log:
            return math.exp(math.log(parameter.low) + unit * math.log(parameter.high / parameter.low))
        return parameter.low + unit * (parameter.high - parameter.low)

    def tell(self, x, value):
        self.waiting = [other for other in self.waiting if other is not x]
        self.x.append(x)
        self.y.append(value)


def searcher(job, function):
    family, _, method = job["method"].partition("_")
    several = job["function"] in functions.FIDELITY
    kind = {"optuna": OptunaRungs if several else Optuna, "syne": SyneTune, "smac": Smac, "botorch": BoTorch}[family]
    return kind(method, function, job["seed"])


def run(job):
    several = job["kind"] == "fidelity"
    function = (functions.FIDELITY if several else functions.SINGLE)[job["function"]]
    made = searcher(job, function)
    if several:
        curve = protocol.fidelity(made, function, job["workers"], job["budget"], job["seed"])
    else:
        curve = protocol.single(made, function, job["workers"], job["evaluations"], job["seed"])
    return {"curve": curve, "cpu_s": round(made.watch.seconds, 4), "version": made.version}


def cost_with_rungs(job):
    """The same of a search that prunes, grown here."""
    function = functions.FIDELITY[job["function"]]
    made = searcher(job, function)

    def one():
        handle, params, _, until = made.ask()
        for rung in function.rungs:
            if not made.report(handle, rung, function.observe(params, rung, job["seed"]), rung == until):
                break

    for _ in range(job["finished"]):
        one()
    before = made.watch.seconds
    for _ in range(job["repeats"]):
        one()
    return {"cpu_ms": (made.watch.seconds - before) * 1000 / job["repeats"], "version": made.version}


def cost(job):
    """Milliseconds of ask, suggestions and tell after so many finished trials, which come with the job."""
    if job["function"] in functions.FIDELITY:
        return cost_with_rungs(job)
    function = functions.SINGLE[job["function"]]
    made = searcher(job, function)
    made.fill(job["trials"])

    def one():
        handle, params = made.ask()
        made.tell(handle, function.observe(params, 1, 0))

    one()
    before = made.watch.seconds
    for _ in range(job["repeats"]):
        one()
    return {"cpu_ms": (made.watch.seconds - before) * 1000 / job["repeats"], "version": made.version}


def answered(job):
    if job["kind"] == "uniform":
        import search_uniform_peers
        return search_uniform_peers.answer(job)
    if job["kind"] == "constrained":
        import search_constrained_peers
        return search_constrained_peers.run(job)
    return cost(job) if job["kind"] == "cost" else run(job)


def main():
    # What the packages print must not come between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        job = json.loads(line)
        try:
            answer = answered(job)
        except Exception as error:  # Whatever a peer does wrong must not end the bench.
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
