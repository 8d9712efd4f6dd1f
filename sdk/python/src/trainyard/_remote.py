"""`python -m trainyard._remote MODULE:FUNCTION --value METRIC`: a function as the program of a trial.

Imports the function, calls it with the configuration, and reports what it returns: a mapping as metrics, a
number as METRIC. An exception becomes the trial's error, with its traceback in the log.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import numbers
import sys
import traceback
from typing import Any, Callable, Mapping, Optional, Sequence

from . import _nested, _run
from ._function import RemoteFunction


def load(target: str) -> Callable[..., Any]:
    """The function that `MODULE:FUNCTION` names.

    Raises:
        ImportError: there is no such module, or it has no such function.
    """
    module, _, name = target.partition(":")
    found = getattr(importlib.import_module(module), name, None)
    if isinstance(found, RemoteFunction):
        return found.function
    if not inspect.isfunction(found):
        raise ImportError(f"{module} has no function {name}: it is {found!r:.80}")
    return found


def call(function: Callable[..., Any], value_name: str, nested: bool = False) -> None:
    """Calls it with the configuration (`nested` at the dots of its names), and reports what it returns."""
    config = _nested.unflatten(_run.params()) if nested else _run.params()
    returned = function(config) if inspect.signature(function).parameters else function()
    metrics = metrics_of(returned, value_name)
    if metrics is not None:
        _run.report(metrics)


def metrics_of(returned: Any, value_name: str) -> Optional[Mapping[str, Any]]:
    """What to report of a function's value; `None` of one that has none.

    Raises:
        TypeError: it is neither a mapping nor a number.
    """
    if returned is None:
        return None
    if isinstance(returned, Mapping):
        return returned
    if isinstance(returned, numbers.Real) or hasattr(returned, "__float__"):
        return {value_name: returned}
    raise TypeError(
        f"the function returned {returned!r:.80} ({type(returned).__name__}), expected a mapping of "
        "metrics, a number or None"
    )


def main(arguments: Optional[Sequence[str]] = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m trainyard._remote", description=__doc__)
    parser.add_argument("target", metavar="MODULE:FUNCTION")
    parser.add_argument("--value", metavar="METRIC", default="value")
    parser.add_argument("--nested", action="store_true", help="names with dots become mappings")
    parser.add_argument("--torch", action="store_true", help="the ranks join their group first")
    given = parser.parse_args(arguments)
    try:
        if given.torch:
            importlib.import_module("trainyard.torch").init()
        call(load(given.target), given.value, given.nested)
    except Exception as error:
        _tell(error)
        sys.exit(1)


def _tell(error: Exception) -> None:
    # This file's own frames say nothing to whoever wrote the function.
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename == __file__:
        frames = frames.tb_next
    lines = traceback.format_exception(type(error), error, frames)
    sys.stdout.flush()
    sys.stderr.write("".join(lines))
    said = str(error).strip()
    if "\n" in said:
        # The trial's error is the last line on standard error.
        sys.stderr.write(f"{type(error).__name__}: {said.splitlines()[0]}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main()
