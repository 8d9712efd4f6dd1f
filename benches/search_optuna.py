"""Optuna's samplers and pruners by ask and tell, as the other peers are asked."""
import warnings

import search_functions as functions
import search_protocol as protocol

ETA = 3


class Optuna:
    def __init__(self, method, function, seed):
        import optuna
        warnings.filterwarnings("ignore")
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        sampler, _, pruner = method.partition("_")
        self.states, self.version, self.space = optuna.trial.TrialState, optuna.__version__, function.space
        samplers, pruners, rungs = optuna.samplers, optuna.pruners, function.rungs
        made = {
            "random": lambda: samplers.RandomSampler(seed=seed),
            "tpe": lambda: samplers.TPESampler(seed=seed),
            # The default is multivariate and grouped.
            "independent-tpe": lambda: samplers.TPESampler(seed=seed, multivariate=False),
            "gp": lambda: samplers.GPSampler(seed=seed),
            "cma": lambda: samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False),
            "qmc": lambda: samplers.QMCSampler(seed=seed, scramble=True, warn_independent_sampling=False, warn_asynchronous_seeding=False),
        }[sampler]()
        stopping = {
            "": lambda: pruners.NopPruner(),
            "asha": lambda: pruners.SuccessiveHalvingPruner(min_resource=rungs[0], reduction_factor=ETA),
            "hb": lambda: pruners.HyperbandPruner(min_resource=rungs[0], max_resource=rungs[-1], reduction_factor=ETA),
        }[pruner]()
        # CMA-ES knows no conditions: it always has all parameters.
        self.flat = sampler == "cma"
        # Hyperband's brackets follow from the name.
        self.study = optuna.create_study(sampler=made, pruner=stopping, study_name=str(seed))
        self.watch = protocol.Stopwatch()

    def suggest(self, trial, parameter):
        if parameter.kind == "categorical":
            return trial.suggest_categorical(parameter.name, list(parameter.choices))
        suggest = trial.suggest_int if parameter.kind == "int" else trial.suggest_float
        return suggest(parameter.name, parameter.low, parameter.high, log=parameter.log)

    def ask(self):
        with self.watch:
            trial = self.study.ask()
            params = functions.suggested(self.space, lambda parameter: self.suggest(trial, parameter), self.flat)
        return trial, functions.pruned(self.space, params)

    def tell(self, trial, value):
        with self.watch:
            self.study.tell(trial, value)

    def fill(self, trials):
        """Finished trials from elsewhere: (configuration, value)."""
        import optuna
        distributions = {}
        for parameter in self.space:
            kind = optuna.distributions
            distributions[parameter.name] = (
                kind.CategoricalDistribution(parameter.choices) if parameter.choices else
                (kind.IntDistribution if parameter.kind == "int" else kind.FloatDistribution)(parameter.low, parameter.high, parameter.log))
        self.study.add_trials([optuna.create_trial(params=params, value=value, distributions={n: distributions[n] for n in params})
                               for params, value in trials])


class OptunaRungs(Optuna):
    def __init__(self, method, function, seed):
        super().__init__(method, function, seed)
        self.whole = function.rungs[-1]

    def ask(self):
        return *super().ask(), 0, self.whole

    def report(self, trial, resource, value, last):
        with self.watch:
            trial.report(value, resource)
            if last:
                self.study.tell(trial, value)
            elif trial.should_prune():
                self.study.tell(trial, state=self.states.PRUNED)
                return False
        return True
