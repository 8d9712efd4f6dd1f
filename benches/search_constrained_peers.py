"""The peers of `constrained` of benches/search.py; runs within their environment."""
import importlib.metadata, logging, warnings

import search_constrained as constrained
import search_protocol as protocol
from search_optuna import Optuna


class SoftOptuna(Optuna):
    """Optuna's samplers with `constraints_func`: as much as they are given to learn of constraints."""

    def __init__(self, method, function, seed):
        super().__init__(method, function, seed)
        import optuna
        made = {"tpe": optuna.samplers.TPESampler, "gp": optuna.samplers.GPSampler}[method]
        self.study.sampler = made(seed=seed, constraints_func=lambda trial: trial.user_attrs["excess"])

    def tell(self, trial, value, excess):
        with self.watch:
            trial.set_user_attr("excess", excess)
            self.study.tell(trial, value)


class Ax:
    """Ax's client with its own choice of generators, and `parameter_constraints`."""

    def __init__(self, function, seed):
        from ax.api.client import Client
        from ax.api.configs import RangeParameterConfig
        warnings.filterwarnings("ignore")
        logging.disable(logging.WARNING)
        self.client, self.version, self.watch = Client(random_seed=seed), importlib.metadata.version("ax-platform"), protocol.Stopwatch()
        parameters = [RangeParameterConfig(name=p.name, parameter_type="float", bounds=(p.low, p.high)) for p in function.space]
        self.client.configure_experiment(parameters=parameters, parameter_constraints=function.linear)
        self.client.configure_optimization(objective="-loss")

    def ask(self):
        with self.watch:
            (trial, params), = self.client.get_next_trials(max_trials=1).items()
        return trial, params

    def tell(self, trial, value, _excess):
        with self.watch:
            self.client.complete_trial(trial_index=trial, raw_data={"loss": value})


def run(job):
    function = constrained.FUNCTIONS[job["function"]]
    family, _, method = job["method"].partition("_")
    search = Ax(function, job["seed"]) if family == "ax" else SoftOptuna(method, function, job["seed"])
    outcome = constrained.drive(search, function, job["evaluations"], soft=True)
    return outcome | {"cpu_s": round(search.watch.seconds, 4), "version": search.version}
