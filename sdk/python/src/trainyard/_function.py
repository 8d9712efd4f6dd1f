"""`@remote`: a function as the program of a job's trials."""

from __future__ import annotations

import inspect
import os
import sys
from pathlib import Path
from typing import (
    Any,
    Callable,
    Dict,
    Generic,
    List,
    Mapping,
    Optional,
    Sequence,
    TypeVar,
    Union,
    overload,
)

from . import _code, _shipping, _values, job
from ._near import near
from . import space as _ranges

R = TypeVar("R")
Objectives = Union[str, Mapping[str, str], Sequence[Mapping[str, Any]]]
Named = Union[str, Mapping[str, Any]]

# Fields of a spec that a job with a program may have, beside those that `search` makes of its own arguments.
FIELDS = (
    "description", "workspace", "priority", "preemptible", "seed", "constraints", "logical_time", "logical_workers",
    "resources", "max_restarts", "max_failed_trials", "max_identical_failures", "failure_policy", "hang_timeout",
    "orphan_timeout", "retry_backoff", "checkpoint_storage", "retain",
)  # fmt: skip
# Fields of its `entrypoint` that `remote` takes.
ENTRYPOINT_FIELDS = ("environment", "exclude", "first_epoch", "processes", "python", "stop_grace")
# What a job's program is, which `remote` makes itself.
OURS = ("command", "working_directory", "ship", "bundle")
# Where this package lies.
PACKAGE = Path(__file__).resolve().parent.parent


@overload
def remote(function: Callable[..., R]) -> "RemoteFunction[R]": ...


@overload
def remote(**entrypoint: Any) -> "Callable[[Callable[..., R]], RemoteFunction[R]]": ...


def remote(function: Optional[Callable[..., Any]] = None, **entrypoint: Any) -> Any:
    """Makes a function the program of a job's trials; it can still be called as ever.

        @ty.remote
        def train(config):
            for epoch in range(9):
                ty.report({"loss": ...}, epoch=epoch)
                if ty.should_stop():
                    break

        if __name__ == "__main__":
            job = train.search({"lr": ty.space.loguniform(1e-4, 1e-1)}, objectives="loss", n_trials=20)

    The function takes the configuration, a dict, or nothing. What it returns is reported at its end: a mapping as
    metrics, a number as the first objective. An exception is the trial's error.

    Args:
        function: at the top level of a module, a script or a notebook.
        entrypoint: other fields of the spec's `entrypoint`, such as `environment`, `exclude` (what of the folder stays
            behind), `stop_grace`.

    Raises:
        TypeError: it is no such function, or takes more than one argument; or a field is none of `entrypoint`.
        ValueError: a field that is made of the function.
    """
    if function is None:
        return lambda given: RemoteFunction(given, entrypoint)
    return RemoteFunction(function, entrypoint)


class RemoteFunction(Generic[R]):
    """A function that `remote` was given, as `function`.

    Args:
        function, entrypoint: as of `remote`.
        flags: of `python -m trainyard._remote`.
    """

    def __init__(
        self,
        function: Callable[..., R],
        entrypoint: Mapping[str, Any],
        flags: Sequence[str] = (),
    ) -> None:
        if not inspect.isfunction(function):
            raise TypeError(f"@remote was given {function!r:.80}, expected a function")
        for name in OURS:
            if name in entrypoint:
                raise ValueError(f"{name} is made of the function: expected other fields")
        _known("@remote", entrypoint, ENTRYPOINT_FIELDS)
        _check_parameters(function)
        self.function = function
        self.__name__ = function.__name__
        self.__doc__ = function.__doc__
        self.__wrapped__ = function
        self._entrypoint = dict(entrypoint)
        self._flags = list(flags)

    def __repr__(self) -> str:
        return f"RemoteFunction({self.__name__})"

    def __call__(self, *arguments: Any, **named: Any) -> R:
        """Calls the function in this process."""
        value: R = self.function(*arguments, **named)
        return value

    def search(
        self,
        space: Mapping[str, Any],
        *,
        objectives: Objectives = "value",
        n_trials: Optional[int] = None,
        searcher: Optional[Named] = None,
        scheduler: Optional[Named] = None,
        name: Optional[str] = None,
        address: Optional[str] = None,
        local: bool = False,
        slots: Optional[int] = None,
        unfinished: Optional[str] = None,
        check: bool = True,
        **fields: Any,
    ) -> "job.Job":
        """Submits a job whose trials call this function.

        Args:
            space: names to ranges (`trainyard.space`), lists of choices, or constants.
            objectives: a metric to be minimized, a mapping of metrics to "minimize" or "maximize", or a list as in a
                spec. By default what the function returns, minimized.
            n_trials: configurations to try; 1 where nothing is to choose.
            searcher, scheduler: a name, or a mapping of fields.
            name: of the job; by default the function's.
            address: of the coordinator, as in `submit`.
            local: runs the job on this machine to its end, as `run`, without a coordinator.
            slots, unfinished, check: with `local`, as of `run`.
            fields: every other field of a spec, such as `seed`, `resources`, `max_restarts`.

        Raises:
            TypeError, ValueError: an argument or the spec is wrong; or this is a trial itself.
            ControlError, FileNotFoundError: as `submit`.
            JobFailed: with `local`, as `run`.
        """
        if "TRAINYARD_JOB_ID" in os.environ:
            raise ValueError(
                f"{self.__name__}.search was called in a trial, which would begin searches without end: "
                'put it below `if __name__ == "__main__":`'
            )
        for what, given in (("slots", slots), ("unfinished", unfinished)):
            if given is not None and not local:
                raise ValueError(f"{what} is {given!r}, expected None without local=True")
        made = self.spec(
            space,
            objectives=objectives,
            n_trials=n_trials,
            searcher=searcher,
            scheduler=scheduler,
            name=name,
            **fields,
        )
        code = _code.locate(self.function)
        with _shipping.folder(code, with_package=not local) as folder:
            made["entrypoint"].update(_place(folder, local, made["entrypoint"]))
            if local:
                return job.run(made, slots=slots, unfinished=unfinished, check=check)
            return job.submit(made, address)

    def spec(
        self,
        space: Mapping[str, Any],
        *,
        objectives: Objectives = "value",
        n_trials: Optional[int] = None,
        searcher: Optional[Named] = None,
        scheduler: Optional[Named] = None,
        name: Optional[str] = None,
        **fields: Any,
    ) -> Dict[str, Any]:
        """The spec that `search` submits, but for where the code lies; arguments as there."""
        _known(f"{self.__name__}.search", fields, (*_arguments(type(self).search), *FIELDS))
        listed = _objectives(objectives)
        named = _fields("searcher", searcher)
        hyperparameters = _ranges.hyperparameters(space)
        if n_trials is not None:
            named["max_trials"] = _values.count("n_trials", n_trials)
        elif "max_trials" not in named and named.get("name") != "grid":
            if any(entry.get("type") != "const" for entry in hyperparameters.values()):
                raise ValueError("n_trials is None, expected how many configurations to try")
            named["max_trials"] = 1
        target = _code.locate(self.function).target
        command = ["python3", "-m", "trainyard._remote", *self._flags, target]
        command += ["--value", listed[0]["metric"]]
        return {
            **fields,
            "name": _values.text("name", name) if name is not None else _job_name(self.__name__),
            "hyperparameters": hyperparameters,
            "entrypoint": {**self._entrypoint, "command": command},
            "objectives": listed,
            "searcher": named,
            **({} if scheduler is None else {"scheduler": _fields("scheduler", scheduler)}),
        }


def _arguments(function: Callable[..., Any]) -> List[str]:
    """The names of those that it takes by name."""
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]


def _known(what: str, given: Mapping[str, Any], known: Sequence[str]) -> None:
    """Refuses the first name that is none of those known, as Python refuses an argument."""
    for name in given:
        if name not in known:
            raise TypeError(
                f"{what} got {name}={given[name]!r:.80}{near(name, known) or ':'} accepted are "
                f"{', '.join(sorted(known))}"
            )


def _check_parameters(function: Callable[..., Any]) -> None:
    parameters = list(inspect.signature(function).parameters.values())
    needed = [p for p in parameters if p.default is p.empty and p.kind not in (2, 4)]
    if len(needed) > 1 or any(p.kind is p.KEYWORD_ONLY for p in needed):
        raise TypeError(
            f"{function.__name__}{inspect.signature(function)} takes several arguments, expected one, "
            "the configuration, or none"
        )


def _job_name(name: str) -> str:
    return name.strip("_")[:63] or "function"


def _objectives(given: Objectives) -> List[Dict[str, Any]]:
    if isinstance(given, str):
        return [{"metric": given, "mode": "minimize"}]
    if isinstance(given, Mapping):
        listed = [{"metric": metric, "mode": mode} for metric, mode in given.items()]
    elif isinstance(given, (list, tuple)):
        listed = [dict(entry) if isinstance(entry, Mapping) else {} for entry in given]
    else:
        listed = []
    if not listed or not all(isinstance(entry.get("metric"), str) for entry in listed):
        raise ValueError(
            f"objectives is {given!r:.80}, expected a metric's name, a mapping of metrics to "
            '"minimize" or "maximize", or a list of {"metric", "mode"}'
        )
    return listed


def _fields(what: str, given: Optional[Named]) -> Dict[str, Any]:
    if given is None:
        return {}
    if isinstance(given, str):
        return {"name": given}
    if not isinstance(given, Mapping):
        raise TypeError(
            f"{what} is {given!r:.80} ({type(given).__name__}), expected a name or a mapping of fields"
        )
    return {str(name): value for name, value in given.items()}


def _place(folder: Optional[Path], local: bool, entrypoint: Mapping[str, Any]) -> Dict[str, Any]:
    """What `entrypoint` needs for the code to be found: with it, or here."""
    if not local:
        return {} if folder is None else {"ship": str(folder)}
    path = [] if _code.is_installed(PACKAGE) else [str(PACKAGE)]
    path += filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    made: Dict[str, Any] = {"command": [sys.executable or "python3", *entrypoint["command"][1:]]}
    if folder is not None:
        made["working_directory"] = str(folder)
    environment = entrypoint.get("environment", {})
    if path and isinstance(environment, Mapping) and "PYTHONPATH" not in environment:
        made["environment"] = {**environment, "PYTHONPATH": os.pathsep.join(path)}
    return made
