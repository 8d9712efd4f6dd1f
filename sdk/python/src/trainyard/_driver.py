"""The search under a study: begun when it is first asked, and anew with all that is known where the space has grown.

Owns the process that searches; knows nothing of objectives and threads (whoever calls holds the study's lock).
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Any, Dict, FrozenSet, List, Mapping, Optional, Sequence, Tuple

from ._ask_tell import Search
from ._frozen import FrozenTrial, TrialState
from ._space import Space

# The spec's own bound (docs/reference.md, `prior_results`): the newest count.
MAX_PRIORS = 10_000


class Wait(Exception):
    """The search needs results of trials under way first."""


@dataclass(frozen=True)
class Asked:
    """A trial that the search has asked for: by which of its processes, under which number, until which resource."""

    search: Search
    its_id: int
    params: Dict[str, Any]
    until: Optional[int]


class Driver:
    """See the module.

    Args:
        space: grows outside, as trials ask for hyperparameters.
        sampler: the searcher's name.
        scheduler: the scheduler's fields, if there is one.
        seed: everything random follows from it.
        modes: of each objective, "minimize" or "maximize".
        source: for values that are drawn where nothing else chooses.
    """

    def __init__(
        self,
        space: Space,
        sampler: str,
        scheduler: Optional[Mapping[str, Any]],
        seed: int,
        modes: Sequence[str],
        source: random.Random,
    ) -> None:
        self._space = space
        self._sampler = sampler
        self._scheduler = scheduler
        self._seed = seed
        self._modes = list(modes)
        self._random = source
        self._search: Optional[Search] = None
        self._tried: Dict[FrozenSet[Tuple[str, Any]], FrozenTrial] = {}

    def ask(self, trials: Sequence[FrozenTrial]) -> Optional[Asked]:
        """The next trial; `None`: the search is over. What was tried before it began anew is answered here.

        Raises:
            Wait: see there.
            ControlError, FileNotFoundError: as `Search`.
        """
        if self._search is None:
            self._search = Search(self._spec(trials))
            self._tried = {self._asked_for(trial): trial for trial in trials}
        while True:
            answer = self._search.ask()
            if "wait" in answer:
                raise Wait
            if "params" not in answer:
                return None
            known = self._tried.pop(frozenset(answer["params"].items()), None)
            if known is None:
                return Asked(self._search, answer["trial"], answer["params"], answer.get("until"))
            if known.values is None:
                self._search.tell_state(answer["trial"], "failed")
            else:
                self._search.tell(answer["trial"], self._told(known.values))

    def report(self, asked: Asked, resource: int, value: float) -> str:
        """The scheduler's decision about a trial: "continue" or "stop"."""
        if asked.search is not self._search or self._scheduler is None:
            return "continue"
        decision = self._search.report(asked.its_id, resource, _number_or_null(value))
        # At the last rung it is stopped because it is complete, which is no pruning.
        return "continue" if asked.until is not None and resource >= asked.until else decision

    def tell(self, asked: Asked, values: Optional[Sequence[float]], why: str) -> None:
        """The end of a trial; one that an earlier search asked for is a known result of the next."""
        if asked.search is not self._search:
            return
        if values is None:
            self._search.tell_state(asked.its_id, why)
        else:
            self._search.tell(asked.its_id, self._told(values))

    def close(self) -> None:
        """Ends the search; the next question begins another."""
        search, self._search = self._search, None
        if search is not None:
            search.close()

    def _told(self, values: Sequence[float]) -> Any:
        if len(self._modes) == 1:
            return _number_or_null(values[0])
        return {_metric(i): _number_or_null(value) for i, value in enumerate(values)}

    def _asked_for(self, trial: FrozenTrial) -> "FrozenSet[Tuple[str, Any]]":
        return frozenset(
            (self._space.key(name), value)
            for name, value in trial.internal.items()
            if not self._space.is_single(name)
        )

    def _spec(self, trials: Sequence[FrozenTrial]) -> Dict[str, Any]:
        seen = [trial.internal for trial in trials]
        return {
            "hyperparameters": self._space.spec(seen),
            "objectives": [
                {"metric": _metric(i), "mode": mode} for i, mode in enumerate(self._modes)
            ],
            "searcher": {"name": self._sampler, "prior_results": self._priors(trials, seen)},
            "seed": self._seed,
            **({} if self._scheduler is None else {"scheduler": self._scheduler}),
        }

    def _priors(
        self, trials: Sequence[FrozenTrial], seen: Sequence[Mapping[str, Any]]
    ) -> List[Dict[str, Any]]:
        """Known results, as values of the first objective."""
        complete = [t for t in trials if t.state is TrialState.COMPLETE and t.values]
        finite = [t.values[0] for t in complete if t.values and math.isfinite(t.values[0])]
        found = []
        for trial in trials[-MAX_PRIORS:]:
            value = None
            if trial.state is TrialState.COMPLETE and trial.values:
                value = trial.values[0]
            elif trial.state is TrialState.FAIL and finite:
                # As the search itself counts a failure: as bad as the worst.
                value = max(finite) if self._modes[0] == "minimize" else min(finite)
            if value is not None and math.isfinite(value):
                found.append(self._space.prior(trial.internal, value, seen, self._random))
        return found


def _metric(number: int) -> str:
    return f"value{number}"


def _number_or_null(value: float) -> Optional[float]:
    return value if math.isfinite(value) else None
