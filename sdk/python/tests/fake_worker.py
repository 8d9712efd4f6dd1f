"""The worker's side of the channel, strict to its protocol (version 1): what it accepts is the protocol.

    with FakeWorker(params={"lr": 0.1}) as worker:
        environment = worker.environment()
        ...
        worker.push_stop("rung")

One thread for the listener and one for each connection. Whatever breaks the protocol lands in `faults`,
which a test asserts to be empty.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import socket
import tempfile
import threading
import time
from typing import Any, Callable, Dict, List, Optional

MAX_LINE_BYTES = 1024 * 1024
WORDS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
# For conditions that a test waits for; machines are shared and slow.
PATIENCE_S = 120.0


class Refuse(Exception):
    """A request that is answered with an error."""


def wait_for(what: str, condition: Callable[[], Any]) -> Any:
    """Looks until `condition` gives something true."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.005)
    raise AssertionError(f"waited {PATIENCE_S} s in vain for {what}")


class FakeWorker:
    def __init__(self, **welcome: Any) -> None:
        self.folder = tempfile.mkdtemp(prefix="ty")
        self.path = os.path.join(self.folder, "s")
        self.token = "5ec2e7"
        self.checkpoint_dir = os.path.join(self.folder, "checkpoints")
        self.taken_dir = os.path.join(self.folder, "taken")
        os.mkdir(self.checkpoint_dir)
        os.mkdir(self.taken_dir)
        self.welcome: Dict[str, Any] = {
            "job_id": "job-1",
            "trial_id": 3,
            "attempt": 0,
            "rank": 0,
            "world_size": 1,
            "seed": 2**63 + 5,
            "params": {},
            "until_epoch": None,
            "restore": None,
            "checkpoint_dir": self.checkpoint_dir,
            "stop": None,
            "stop_grace_s": 30,
            **welcome,
        }
        self.faults: List[str] = []
        self.hellos = 0
        self.reports: List[Dict[str, Any]] = []
        self.checkpoints: List[Dict[str, Any]] = []
        # By name: the copies of files and folders.
        self.artifacts: Dict[str, str] = {}
        self.kept = 0
        self.infeasible: Optional[str] = None
        self.progress: List[float] = []
        self.questions = 0
        # At most two wait for their upload, which is at once, or with `slow_upload` when `uploaded` says so.
        self.slow_upload = False
        self._uploads = threading.Semaphore(2)
        self._lock = threading.Lock()
        self._connections: List[socket.socket] = []
        # What this worker does otherwise than a healthy one.
        self.deaf = threading.Event()
        self.refuse_all: Optional[str] = None

    def __enter__(self) -> "FakeWorker":
        self.listen()
        return self

    def __exit__(self, *_: Any) -> None:
        self.stop_listening()
        self.drop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def listen(self) -> None:
        if os.path.exists(self.path):
            os.unlink(self.path)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(self.path)
        os.chmod(self.path, 0o600)
        self._listener.listen()
        threading.Thread(target=self._accept, args=[self._listener], daemon=True).start()

    def stop_listening(self) -> None:
        # Shutting it down ends `accept`, which closing alone does not.
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._listener.close()
        if os.path.exists(self.path):
            os.unlink(self.path)

    def drop(self) -> None:
        """Cuts every connection."""
        with self._lock:
            connections, self._connections = self._connections, []
        for connection in connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            connection.close()

    def environment(self, **more: str) -> Dict[str, str]:
        """What a worker sets for a program."""
        welcome = self.welcome
        return {
            "TRAINYARD_CHANNEL": self.path,
            "TRAINYARD_TOKEN": self.token,
            "TRAINYARD_JOB_ID": welcome["job_id"],
            "TRAINYARD_TRIAL_ID": str(welcome["trial_id"]),
            "TRAINYARD_ATTEMPT": str(welcome["attempt"]),
            "TRAINYARD_RANK": str(welcome["rank"]),
            "TRAINYARD_WORLD_SIZE": str(welcome["world_size"]),
            "TRAINYARD_SEED": str(welcome["seed"]),
            "TRAINYARD_PARAMS": json.dumps(welcome["params"]),
            "TRAINYARD_CHECKPOINT_DIR": self.checkpoint_dir,
            **more,
        }

    def push_stop(self, reason: str) -> None:
        self.welcome["stop"] = reason
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            self._send(
                connection,
                {
                    "type": "stop",
                    "reason": reason,
                    "grace_s": self.welcome["stop_grace_s"],
                },
            )

    def uploaded(self) -> None:
        self._uploads.release()

    # One connection.

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with self._lock:
                self._connections.append(connection)
            threading.Thread(target=self._serve, args=[connection], daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            lines = connection.makefile("rb")
            if not self._greet(connection, lines.readline(MAX_LINE_BYTES + 1)):
                connection.close()
                return
            while True:
                line = lines.readline(MAX_LINE_BYTES + 1)
                if not line.endswith(b"\n"):
                    if len(line) > MAX_LINE_BYTES:
                        self.faults.append("a line of over 1 MiB")
                    return  # The end, or half a line before it, which counts for nothing.
                wait_for("hearing again", lambda: not self.deaf.is_set())
                self._line(connection, line)
        except (OSError, ValueError):
            pass  # Dropped, by either side.
        finally:
            connection.close()

    def _greet(self, connection: socket.socket, line: bytes) -> bool:
        message = self._parse(line)
        self.hellos += 1
        wrong = None
        if message is None or message.get("type") != "hello":
            wrong = "the first line is no hello"
        elif message.get("version") != 1:
            wrong = f"version is {message.get('version')!r}, expected 1"
        elif message.get("token") != self.token:
            wrong = "the token is not this attempt's"
        answer = (
            {"type": "error", "message": wrong}
            if wrong
            else {"type": "welcome", "version": 1, **self.welcome}
        )
        self._send(connection, answer)
        return wrong is None

    def _line(self, connection: socket.socket, line: bytes) -> None:
        message = self._parse(line)
        if message is None:
            return
        its_id = message.get("id")
        if its_id is not None and not isinstance(its_id, (str, int, float)):
            self.faults.append(f"id is {its_id!r}, expected text or a number")
        try:
            if self.refuse_all is not None:
                raise Refuse(self.refuse_all)
            answer = self._request(message)
        except Refuse as why:
            answer = {"type": "error", "message": str(why)}
        if its_id is not None:
            answer["id"] = its_id
        if its_id is not None or answer["type"] == "error":
            self._send(connection, answer)

    def _parse(self, line: bytes) -> Optional[Dict[str, Any]]:
        try:
            message = json.loads(line.decode("utf-8"))
            if not isinstance(message, dict):
                raise ValueError("no object")
            return message
        except ValueError as error:
            self.faults.append(f"{line[:80]!r}: {error}")
            return None

    def _send(self, connection: socket.socket, message: Dict[str, Any]) -> None:
        try:
            connection.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            pass  # It is gone, which its own thread finds out.

    # Requests.

    def _request(self, message: Dict[str, Any]) -> Dict[str, Any]:
        kind = message.get("type")
        if kind == "report":
            report = self._report(message)
            with self._lock:
                self.reports.append(report)
            until = self.welcome["until_epoch"]
            if until is not None and report.get("epoch", 0) >= until:
                self.push_stop("rung")
        elif kind == "checkpoint":
            self._take(message, "path")
        elif kind == "infeasible":
            self.infeasible = _field(message, "reason", str)
        elif kind == "progress":
            self.progress.append(float(_field(message, "fraction", (int, float))))
        elif kind == "should_stop":
            self.questions += 1
            return {"type": "stop", "reason": self.welcome["stop"]}
        elif kind == "artifact":
            self._keep(_field(message, "path", str), _field(message, "name", str))
        else:
            raise Refuse(
                f"type is {kind!r}, expected one of report, checkpoint, artifact, infeasible, "
                "progress, should_stop"
            )
        return {"type": "ok"}

    def _report(self, message: Dict[str, Any]) -> Dict[str, Any]:
        report: Dict[str, Any] = {"metrics": {}}
        for name, value in _field(message, "metrics", dict).items():
            if isinstance(value, str):
                value = WORDS.get(value, value)
            if isinstance(value, (str, bool)) or not isinstance(value, (int, float)):
                raise Refuse(f"metrics.{name} is {value!r}, expected a number")
            report["metrics"][name] = value
        for name in ("epoch", "step"):
            if name in message:
                report[name] = _field(message, name, int)
        if "checkpoint" in message:
            self._take(message, "checkpoint")
            report["checkpoint"] = True
        return report

    def _keep(self, path: str, name: str) -> None:
        """Copies a file or folder; the newest of a name counts."""
        if not os.path.isabs(path):
            self.faults.append(f"path is {path!r}, expected an absolute path")
        parts = name.split("/")
        if len(name.encode()) > 255 or any(part in ("", ".", "..") for part in parts):
            raise Refuse(f"name is {name[:40]!r}, accepted are 1 to 255 bytes")
        if not os.path.exists(path):
            raise Refuse(f"artifact {name}: {path}: there is no such folder or file")
        with self._lock:
            target = os.path.join(self.taken_dir, f"artifact-{len(self.artifacts)}-{self.kept}")
            self.kept += 1
            if os.path.isdir(path):
                shutil.copytree(path, target)
            else:
                shutil.copyfile(path, target)
            self.artifacts[name] = target

    def _take(self, message: Dict[str, Any], field: str) -> None:
        """Takes a folder (or file) over: moved from `checkpoint_dir`, copied from elsewhere."""
        path = _field(message, field, str)
        if not os.path.isabs(path):
            self.faults.append(f"{field} is {path!r}, expected an absolute path")
        self._uploads.acquire()
        if not self.slow_upload:
            self.uploaded()
        with self._lock:
            # Now and not before: asked for twice, it was taken meanwhile.
            if not os.path.exists(path):
                raise Refuse(f"{field} is {path!r}, which does not exist")
            target = os.path.join(self.taken_dir, str(len(self.checkpoints)))
            moved = os.path.dirname(path) == self.checkpoint_dir
            if moved:
                os.rename(path, target)
            elif os.path.isdir(path):
                shutil.copytree(path, target)
            else:
                shutil.copyfile(path, target)
            self.checkpoints.append(
                {
                    "taken": target,
                    "moved": moved,
                    "epoch": message.get("epoch"),
                    "step": message.get("step"),
                }
            )


def _field(message: Dict[str, Any], name: str, kind: Any) -> Any:
    value = message.get(name)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is int):
        raise Refuse(f"{name} is {value!r}, expected {kind}")
    return value
