"""The command line `coordinatorctl`, which does for this package what a client of the coordinator does."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
from typing import Any, Deque, Dict, Iterator, List, Optional, Sequence

VARIABLE = "TRAINYARD_CTL"
NAME = "coordinatorctl"
# Of a verb that fails after it has said much, the end says why.
KEPT_LINES = 50


class ControlError(RuntimeError):
    """`coordinatorctl` has refused or failed.

    Attributes:
        status: its exit status, as docs/cli.md lists them (2: wrong usage or spec, 3: nobody reached,
            4: not found).
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def find() -> str:
    """The program's path: `TRAINYARD_CTL`, else from PATH.

    Raises:
        FileNotFoundError: there is none.
    """
    given = os.environ.get(VARIABLE)
    found = shutil.which(given or NAME)
    if found is None:
        named = f"{VARIABLE} is {given!r}" if given else f"there is no {NAME} in PATH"
        raise FileNotFoundError(
            f"{named}, expected the program {NAME} of Trainyard in PATH, or its path in {VARIABLE}"
        )
    return found


def command(arguments: Sequence[str], where: Sequence[str] = ()) -> List[str]:
    """A whole command line; `where` are the options that say whom to ask, see `at`."""
    return [find(), "--output", "json", *where, *arguments]


def at(address: Optional[str] = None, data_dir: Optional[str] = None) -> List[str]:
    """Whom to ask: a coordinator (by default that of `TRAINYARD_COORDINATOR`), or what `run` left in a folder."""
    if data_dir is not None:
        return ["--data-dir", data_dir]
    return [] if address is None else ["--coordinator", address]


def call(
    arguments: Sequence[str],
    where: Sequence[str] = (),
    *,
    given: Optional[str] = None,
    accepted: Sequence[int] = (0,),
) -> Dict[str, Any]:
    """Runs a verb to its end and reads the object that it prints.

    Raises:
        ControlError: another exit status than those accepted, or no JSON.
    """
    done = subprocess.run(
        command(arguments, where),
        input=given,
        stdin=subprocess.DEVNULL if given is None else None,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    return _object(done.stdout, done.stderr, done.returncode, accepted)


def told(
    arguments: Sequence[str], where: Sequence[str], *, given: str, accepted: Sequence[int]
) -> Dict[str, Any]:
    """As `call`, for a verb that takes long: what it says on standard error is passed on as it comes.

    An interrupt is the verb's as well (it stands in the same group), and its end is waited for.
    """
    with subprocess.Popen(
        command(arguments, where),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        said: Deque[str] = collections.deque(maxlen=KEPT_LINES)
        assert process.stdin is not None and process.stdout is not None
        listening = threading.Thread(target=_pass_on, args=[process.stderr, said])
        listening.start()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(given)
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        try:
            output = process.stdout.read()
        finally:
            process.wait()
            listening.join()
    return _object(output, "".join(said), process.returncode, accepted)


def _pass_on(errors: Any, said: "Deque[str]") -> None:
    for line in errors:
        said.append(line)
        sys.stderr.write(line)


def _object(output: str, errors: str, status: int, accepted: Sequence[int]) -> Dict[str, Any]:
    try:
        answer = json.loads(output) if status in accepted else None
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise _failed(errors, output, status)
    return answer


def lines(arguments: Sequence[str], where: Sequence[str] = ()) -> Iterator[Dict[str, Any]]:
    """Runs a verb and reads the objects that it prints, one a line, as they come.

    Leaving the iteration ends the program.

    Raises:
        ControlError: it ended with another status than 0.
    """
    with subprocess.Popen(
        command(arguments, where),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        try:
            assert process.stdout is not None and process.stderr is not None
            for line in process.stdout:
                yield json.loads(line)
            errors = process.stderr.read()
            if process.wait() != 0:
                raise _failed(errors, "", process.returncode)
        finally:
            process.terminate()


def _failed(errors: str, output: str, status: int) -> ControlError:
    said = errors.strip() or output.strip() or f"exit status {status}"
    return ControlError(said[len("error: ") :] if said.startswith("error: ") else said, status)
