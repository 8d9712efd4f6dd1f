"""A search of its own process: `coordinatorctl ask-tell`, one object in, one object out."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from typing import Any, Dict, Mapping

from . import _ctl


class Search:
    """One process with one spec. What it refuses is a `ControlError`."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self._errors = tempfile.TemporaryFile()
        # JSON is YAML; a file since standard input is for the questions.
        file, path = tempfile.mkstemp(prefix="trainyard-", suffix=".yaml")
        with os.fdopen(file, "w") as writing:
            json.dump(spec, writing)
        try:
            self._process = subprocess.Popen(
                [_ctl.find(), "ask-tell", path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                encoding="utf-8",
            )
            # Its first question is answered once the file was read.
            self._first: Any = self._say({"ask": {}})
        except BaseException:
            self.close()
            raise
        finally:
            os.unlink(path)

    def ask(self) -> Dict[str, Any]:
        """`trial`, `params`, `from`, `until`; or `wait`, or `done`."""
        first, self._first = self._first, None
        return first or self._say({"ask": {}})

    def report(self, trial: int, resource: int, value: Any) -> str:
        """The decision: "continue", "pause" or "stop"."""
        answer = self._say({"report": {"trial": trial, "resource": resource, "value": value}})
        return str(answer["decision"])

    def tell(self, trial: int, value: Any) -> None:
        self._say({"tell": {"trial": trial, "value": value}})

    def tell_state(self, trial: int, state: str) -> None:
        self._say({"tell": {"trial": trial, "state": state}})

    def close(self) -> None:
        process = getattr(self, "_process", None)
        if process is not None:
            # The end of its input is the end of the search.
            process.stdin.close()
            process.stdout.close()
            process.wait()
        self._errors.close()

    def _say(self, request: Mapping[str, Any]) -> Dict[str, Any]:
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(json.dumps(request, allow_nan=False) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            status = process.wait()
            self._errors.seek(0)
            said = self._errors.read().decode(errors="replace").strip()
            raise _ctl.ControlError(f"the search has ended: {said or status}", status)
        answer: Dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise _ctl.ControlError(str(answer["error"]), 2)
        return answer
