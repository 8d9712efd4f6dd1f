"""The one session of this process: whom it speaks to (the channel, standard output, a person), and forks.

Nothing here raises for reasons of transport: a lost channel becomes lines on standard output, told once.
"""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any, Dict, List, Optional, Union

from . import _info, _ranks
from ._channel import Channel, Closed, Refused
from ._lines import Alone, Lines, Rarely
from ._log import warn_once


class Session:
    """What the public functions share. `begun` says who this process is."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self._channel = _open_channel()
        self.begun = self._channel.begun if self._channel else _info.of_environment()
        self.inside = self._channel is not None or _is_inside()
        self._spoken: Union[Lines, Alone] = Lines(self.begun.info) if self.inside else Alone()
        self._stop: Optional[str] = None
        self._terminated = False
        self._listens = False
        self._often = Rarely()
        # Folders of open `checkpoint_dir` blocks, and which of them a report has handed over.
        self.open_folders: Dict[str, bool] = {}
        self.newest: Optional[Path] = None

    @property
    def info(self) -> _info.Info:
        return self.begun.info

    def speaks(self) -> bool:
        """Whether what this process reports counts: rank 0 of the group that trains."""
        return _ranks.rank(self.info.rank) == 0

    def report(self, message: Dict[str, Any]) -> None:
        """A report of rank 0; from another rank of the attempt it is a sign of life."""
        if not self.speaks():
            # Trainyard counts no report of these ranks, whose silence would be a hang; what a launcher
            # started within rank 0 must not speak for it.
            if self.info.rank != 0:
                self._say({k: v for k, v in message.items() if k != "checkpoint"})
        elif "checkpoint" in message:
            self.hand_over(message, message["checkpoint"])
        else:
            self._say(message)

    def say(self, message: Dict[str, Any]) -> None:
        """Something that is not answered, of rank 0."""
        if self.speaks():
            self._say(message)

    def progress(self, fraction: float) -> None:
        if self._often.now():
            self.say({"type": "progress", "fraction": fraction})

    def _say(self, message: Dict[str, Any]) -> None:
        channel = self._channel
        if channel is not None:
            try:
                channel.send(message)
                return
            except Closed as error:
                self._fall_back(error)
        self._spoken.say(message)

    def hand_over(self, message: Dict[str, Any], path: str) -> bool:
        """Says something about `path` and waits until Trainyard has it; false: it was refused, as logged."""
        channel = self._channel
        if channel is not None:
            try:
                channel.ask(message)
                return True
            except Refused as error:
                # Asked again after a lost connection, it may have been taken over the first time.
                if os.path.exists(path):
                    kind = message["type"]
                    warn_once(f"{kind} {error}", f"{_a(kind)} was refused: {error}")
                    return False
                return True
            except Closed as error:
                self._fall_back(error)
        self._spoken.hand_over(message)
        return True

    def stop(self) -> Optional[str]:
        """Why to stop, by what this process knows; other ranks may know more."""
        self._listen()
        reason: Optional[str] = None
        channel = self._channel
        if channel is not None:
            try:
                reason = channel.should_stop()
            except Closed as error:
                self._fall_back(error)
        if reason is None:
            reason = self._stop or (self._spoken.stop() if self._channel is None else None)
        if reason is None and self._terminated:
            reason = "leave"
        return reason

    def _listen(self) -> None:
        """From the first question on SIGTERM is an answer, unless the program has a handler of its own."""
        if self._listens or not self.inside:
            return
        if threading.current_thread() is not threading.main_thread():
            return
        self._listens = True
        if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
            signal.signal(signal.SIGTERM, self._on_term)

    def _on_term(self, number: int, frame: Any) -> None:
        if self._terminated or os.getpid() != self._process:
            # Whoever sends it twice means it, and to a child that was just forked nobody speaks of stops.
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)
        self._terminated = True

    def _fall_back(self, error: Closed) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            self._stop = channel.stop
            channel.abandon()
        warn_once(
            "channel",
            f"the channel to Trainyard is lost ({error}); reports go to standard output from now on",
        )

    def abandon(self) -> None:
        """In a forked child: what is open belongs to the parent."""
        if self._channel is not None:
            self._channel.abandon()
        if self._listens and signal.getsignal(signal.SIGTERM) == self._on_term:
            # Pools end their workers with it.
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _a(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


def _is_inside() -> bool:
    return "TRAINYARD_JOB_ID" in os.environ


def _open_channel() -> Optional[Channel]:
    path = os.environ.get("TRAINYARD_CHANNEL")
    if not path:
        return None
    try:
        return Channel(path, os.environ.get("TRAINYARD_TOKEN", ""))
    except Closed as error:
        warn_once(
            "channel",
            f"there is no channel to Trainyard ({error}); reports go to standard output",
        )
        return None


_lock = threading.Lock()
_sessions: List[Session] = []


def current() -> Session:
    """This process's session, begun with the first call."""
    with _lock:
        if not _sessions:
            _sessions.append(Session())
        return _sessions[0]


def end() -> None:
    """The next call begins another session (for tests)."""
    with _lock:
        for session in _sessions:
            session.abandon()
        _sessions.clear()


def _after_fork() -> None:
    # A child (a DataLoader's worker) must not speak on its parent's connection, and a lock may have been
    # held by a thread that it does not have. What it says it says on a connection of its own.
    global _lock
    _lock = threading.Lock()
    for session in _sessions:
        session.abandon()
    _sessions.clear()


os.register_at_fork(after_in_child=_after_fork)
