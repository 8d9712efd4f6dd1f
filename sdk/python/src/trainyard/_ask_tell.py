"""A search of its own process: `coordinatorctl ask-tell`, one object in, one object out."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
import weakref
from typing import IO, Any, Dict, Mapping

from . import _ctl


class Search:
    """One process with one spec. What it refuses is a `ControlError`."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self._errors = tempfile.TemporaryFile()
        self._close: Any = weakref.finalize(self, self._errors.close)
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
            self._close.detach()
            self._close = weakref.finalize(self, _end, self._process, self._errors)
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
        """A number (or `None`), or with several objectives a mapping of their names."""
        named = "values" if isinstance(value, dict) else "value"
        self._say({"tell": {"trial": trial, named: value}})

    def tell_state(self, trial: int, state: str) -> None:
        self._say({"tell": {"trial": trial, "state": state}})

    def close(self) -> None:
        """Ends the process; also done where the search is forgotten, as of a study that is only asked and told."""
        self._close()

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


def _end(process: "subprocess.Popen[str]", errors: IO[bytes]) -> None:
    assert process.stdin is not None and process.stdout is not None
    # The end of its input is the end of the search.
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    process.stdout.close()
    process.wait()
    errors.close()
