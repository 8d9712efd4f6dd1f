"""Names by which scripts know Optuna 5: `import trainyard.optuna as optuna` moves one that uses what is here.

The searcher and the scheduler underneath are Trainyard's (docs/moving-from-optuna.md); what is not here says so.
"""

from __future__ import annotations

from typing import Any

from .._instead import lacking
from ..study import Study, load_study
from ..trial import FrozenTrial, Trial, TrialPruned, create_trial
from . import distributions, exceptions, logging, pruners, samplers, study, trial
from .study import create_study

__all__ = [
    "FrozenTrial",
    "Study",
    "Trial",
    "TrialPruned",
    "create_study",
    "create_trial",
    "distributions",
    "exceptions",
    "load_study",
    "logging",
    "pruners",
    "samplers",
    "study",
    "trial",
]

_INSTEAD = {
    "visualization": "`coordinatorctl insight JOB`, or study.trials_dataframe() and a plotting library",
    "importance": "`coordinatorctl insight JOB` of a job",
    "storages": "a job (trainyard.submit), whose state is the coordinator's",
    "artifacts": "trainyard.log_artifact of a job's program",
    "integration": "the callbacks of trainyard.keras, .lightning and .transformers",
    "delete_study": "nothing: studies are not stored",
    "copy_study": "study.add_trials(other.trials)",
    "get_all_study_names": "nothing: studies are not stored",
    "get_all_study_summaries": "nothing: studies are not stored",
    "search_space": "study.best_trial.distributions",
}


def __getattr__(name: str) -> Any:
    raise lacking(__name__, name, _INSTEAD)
