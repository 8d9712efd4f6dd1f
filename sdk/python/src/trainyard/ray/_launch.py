"""A function and its configuration as a job, to its end."""

from __future__ import annotations

import os
from typing import Any, Callable, Dict, List, Mapping, Optional

from .._function import RemoteFunction
from .._nested import flatten
from ._configs import RunConfig
from ._results import ResultGrid

COORDINATOR = "TRAINYARD_COORDINATOR"


def launch(
    function: Callable[..., Any],
    config: Mapping[str, Any],
    *,
    objectives: Mapping[str, str],
    run: RunConfig,
    flags: List[str],
    check: bool = True,
    **options: Any,
) -> ResultGrid:
    """Runs a job on the coordinator of `TRAINYARD_COORDINATOR`, else on this machine.

    Raises:
        JobFailed: it failed, with `check`.
        TypeError, ValueError, ControlError, FileNotFoundError: as `RemoteFunction.search`.
    """
    space = flatten(config, lambda value: "type" in value)
    nested = set(space) != set(config)
    made = RemoteFunction(function, {}, [*flags, *(["--nested"] if nested else [])])
    local = not os.environ.get(COORDINATOR)
    fields: Dict[str, Any] = {**run.fields(), **options}
    name: Optional[str] = run.name
    job = made.search(
        space, objectives=objectives, name=name, local=local, check=check and local, **fields
    )
    if not local:
        job.wait(check=check)
    (metric, mode), *_ = objectives.items()
    return ResultGrid(job, metric, mode, nested)
