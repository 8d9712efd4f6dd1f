"""Reports as lines on standard output, where there is no channel; and plain text outside Trainyard.

Knows what Trainyard makes of such lines as far as a program must: when its rung is reached.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from typing import Any, Dict, Optional

from ._info import Info
from ._log import warn_once

STANDARD_OUTPUT = 1
# Progress is a sign of life: more often than this it would only fill the log.
PROGRESS_EVERY_S = 1.0


class Lines:
    """Standard output as Trainyard reads it: `{"metrics": {...}, "epoch": 3}`, one object a line."""

    def __init__(self, info: Info) -> None:
        self._until = info.until_epoch
        restored = info.restored_from
        self._begun_at = (restored.epoch or 0) if restored else 0
        self._first: Optional[int] = None
        self._complete = self._begun_at
        self._last: Dict[str, Any] = {}
        self._lock = threading.Lock()

    def say(self, message: Dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "report":
            self._report({k: v for k, v in message.items() if k != "type"})
        elif kind == "infeasible":
            self._write(json.dumps({"infeasible": message["reason"]}))
        elif kind == "progress":
            self._write(f"progress {message['fraction']:.0%}")
        else:
            warn_once(kind, f"{kind}: this needs the channel, which is not there")

    def hand_over(self, message: Dict[str, Any]) -> None:
        """A checkpoint, as part of a report: its epoch's newest metrics are told once more with it."""
        if message["type"] == "report":
            self.say(message)
            return
        if message["type"] != "checkpoint":
            self.say(message)
            return
        epoch = message.get("epoch", self._last.get("epoch"))
        if epoch is None or "metrics" not in self._last:
            warn_once(
                "checkpoint line",
                "a checkpoint on standard output needs a report before it, and an epoch: it is left out",
            )
            return
        line = {"metrics": self._last["metrics"], "epoch": epoch}
        line.update({k: v for k, v in message.items() if k in ("step", "path")})
        line["checkpoint"] = line.pop("path")
        self._report(line)

    def _report(self, line: Dict[str, Any]) -> None:
        with self._lock:
            epoch = line.get("epoch")
            if epoch is None:
                self._complete += 1
            else:
                if self._first is None:
                    self._first = epoch
                # A program that counts from 0 names a complete epoch by one less.
                self._complete = epoch + (1 if self._first == self._begun_at else 0)
            self._last = line
        self._write(json.dumps(line, allow_nan=False))

    def stop(self) -> Optional[str]:
        """ "rung", once the epoch was reported until which this attempt is to train."""
        reached = self._until is not None and self._complete >= self._until
        return "rung" if reached else None

    def _write(self, line: str) -> None:
        # Not through `sys.stdout`, which a program may have redirected: Trainyard reads the descriptor.
        with self._lock:
            _flush()
            rest = line.encode() + b"\n"
            try:
                while rest:
                    rest = rest[os.write(STANDARD_OUTPUT, rest) :]
            except OSError as error:
                warn_once("stdout", f"cannot report on standard output: {error}")


class Alone:
    """Outside Trainyard: every report is printed for whoever looks."""

    def say(self, message: Dict[str, Any]) -> None:
        print(f"[trainyard] {_described(message)}", flush=True)

    hand_over = say

    def stop(self) -> Optional[str]:
        return None


class Rarely:
    """Lets something through at most once in `PROGRESS_EVERY_S`."""

    def __init__(self) -> None:
        self._next = 0.0

    def now(self) -> bool:
        at = time.monotonic()
        if at < self._next:
            return False
        self._next = at + PROGRESS_EVERY_S
        return True


def _described(message: Dict[str, Any]) -> str:
    kind = message["type"]
    at = " ".join(f"{key} {message[key]}" for key in ("epoch", "step") if key in message)
    if kind == "infeasible":
        return f"infeasible: {message['reason']}"
    if kind == "progress":
        return f"progress {message['fraction']:.0%}"
    if kind == "artifact":
        return f"artifact {message['name']}: {message['path']}"
    parts = [at] if at else []
    if "metrics" in message:
        parts.append(", ".join(f"{k} {_short(v)}" for k, v in message["metrics"].items()))
    where = message.get("checkpoint", message.get("path"))
    if where:
        parts.append(f"checkpoint {where}")
    return ": ".join(parts)


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _flush() -> None:
    for stream in (sys.stdout, sys.__stdout__):
        try:
            if stream is not None:
                stream.flush()
        except (AttributeError, OSError, ValueError):
            pass  # It is closed, or no file: nothing of it can stand in the way.
