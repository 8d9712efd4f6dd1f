"""What the tests share: an environment of their own, and programs in processes of their own."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import unittest
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional
from unittest import mock

from fake_worker import PATIENCE_S, FakeWorker

from trainyard import _log, _session

SOURCE = Path(__file__).resolve().parent.parent / "src"


def control() -> Optional[str]:
    """The path of `coordinatorctl`, where there is one."""
    return shutil.which(os.environ.get("TRAINYARD_CTL") or "coordinatorctl")


CONTROL = control()
# What Trainyard and launchers set; tests begin without.
OURS = ("TRAINYARD_", "RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_", "TORCHELASTIC_")


class Case(unittest.TestCase):
    """A temporary working directory, no variables of Trainyard, a session of its own."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="ty")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        before = os.getcwd()
        os.chdir(folder.name)
        self.addCleanup(os.chdir, before)
        clean = {k: v for k, v in os.environ.items() if not k.startswith(OURS)}
        if CONTROL is not None:
            clean["TRAINYARD_CTL"] = CONTROL
        patch = mock.patch.dict(os.environ, clean, clear=True)
        patch.start()
        self.addCleanup(patch.stop)
        self.warnings: List[str] = []
        handler = _Keep(self.warnings)
        _log.logger.addHandler(handler)
        _log.logger.propagate = False
        self.addCleanup(_log.logger.removeHandler, handler)
        self.addCleanup(_session.end)
        _session.end()
        _log.forget()

    def worker(self, **welcome: Any) -> FakeWorker:
        """A worker in whose environment this process is from now on."""
        worker = FakeWorker(**welcome)
        worker.listen()
        self.addCleanup(self._leave, worker)
        os.environ.update(worker.environment())
        return worker

    def _leave(self, worker: FakeWorker) -> None:
        worker.__exit__()
        self.assertEqual(worker.faults, [], "the protocol was broken")

    @contextlib.contextmanager
    def printed(self) -> Iterator[io.StringIO]:
        with contextlib.redirect_stdout(io.StringIO()) as output:
            yield output

    def program(
        self, text: str, environment: Dict[str, str], **options: Any
    ) -> "subprocess.CompletedProcess[str]":
        """Runs a program to its end."""
        process = self.start(text, environment, **options)
        try:
            output, errors = process.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise AssertionError(f"did not end: {process.communicate()}") from None
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)

    def start(
        self, text: str, environment: Dict[str, str], **options: Any
    ) -> "subprocess.Popen[str]":
        path = self.folder / "program.py"
        # One that hangs ends before its test gives up, and says where it was.
        limit = (
            f"import faulthandler; faulthandler.dump_traceback_later({PATIENCE_S - 5}, exit=True)\n"
        )
        path.write_text(limit + textwrap.dedent(text))
        # As people's machines have it, so that output is kept back as long as it would be there.
        clean = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
        return subprocess.Popen(
            [sys.executable, str(path)],
            env={**clean, "PYTHONPATH": str(SOURCE), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )


class _Keep(logging.Handler):
    def __init__(self, kept: List[str]) -> None:
        super().__init__()
        self._kept = kept

    def emit(self, record: logging.LogRecord) -> None:
        self._kept.append(record.getMessage())
