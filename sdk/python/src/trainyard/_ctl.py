"""The command line `coordinatorctl`, which does for this package what a client of the coordinator does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import Any, Dict, Iterator, List, Optional, Sequence

VARIABLE = "TRAINYARD_CTL"
NAME = "coordinatorctl"


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


def command(arguments: Sequence[str], address: Optional[str]) -> List[str]:
    """A whole command line; `address` is a coordinator's, by default that of `TRAINYARD_COORDINATOR`."""
    coordinator = [] if address is None else ["--coordinator", address]
    return [find(), "--output", "json", *coordinator, *arguments]


def call(
    arguments: Sequence[str],
    *,
    address: Optional[str] = None,
    given: Optional[str] = None,
    accepted: Sequence[int] = (0,),
) -> Dict[str, Any]:
    """Runs a verb to its end and reads the object that it prints.

    Raises:
        ControlError: another exit status than those accepted, or no JSON.
    """
    done = subprocess.run(
        command(arguments, address),
        input=given,
        stdin=subprocess.DEVNULL if given is None else None,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    if done.returncode not in accepted:
        raise _failed(done.stderr, done.stdout, done.returncode)
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        raise _failed(done.stderr, done.stdout, done.returncode) from None
    if not isinstance(answer, dict):
        raise _failed(done.stderr, done.stdout, done.returncode)
    return answer


def lines(arguments: Sequence[str], *, address: Optional[str] = None) -> Iterator[Dict[str, Any]]:
    """Runs a verb and reads the objects that it prints, one a line, as they come.

    Leaving the iteration ends the program.

    Raises:
        ControlError: it ended with another status than 0.
    """
    with subprocess.Popen(
        command(arguments, address),
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
