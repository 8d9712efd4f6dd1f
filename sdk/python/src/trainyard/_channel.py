"""The channel between a program and its worker: lines of JSON over a Unix stream socket, version 1.

Owns the socket and nothing else: what a report means is the session's business. Needs no thread of its
own: what the worker says unasked (a stop) lies in the socket until somebody looks. Any thread may use it.
"""

from __future__ import annotations

import itertools
import json
import select
import socket
import threading
import time
from typing import Any, Dict, Iterator, Mapping, Optional, Set

from . import _info
from ._log import warn_once

VERSION = 1
# The protocol's own bound, in both directions.
MAX_LINE_BYTES = 1024 * 1024
# For connecting, and for the answer to `hello`: the worker does no work in between.
CONNECT_S = 10.0
# How long an answer to `should_stop` is waited for: training must not stand still over a question.
STOP_ANSWER_S = 10.0
# An answer that another thread has read is found by looking again.
LOOK_AGAIN_MS = 50
# After this long a program is told why it stands still.
SLOW_S = 60.0
RECEIVE_BYTES = 64 * 1024
# macOS has no such flag; Python ignores SIGPIPE there unless the program has changed it.
NO_SIGPIPE = getattr(socket, "MSG_NOSIGNAL", 0)

URGENCY = {None: 0, "rung": 1, "leave": 2, "cancel": 3}

Message = Dict[str, Any]


class Closed(Exception):
    """There is no connection, and another could not be made."""


class Refused(Exception):
    """The worker has refused a request; the text is its own."""


class TooLong(ValueError):
    """A message is longer than a line may be."""


def encode(message: Mapping[str, Any]) -> bytes:
    """One line.

    Raises:
        TooLong: it would be longer than 1 MiB.
    """
    line = json.dumps(message, allow_nan=False, separators=(",", ":")).encode() + b"\n"
    if len(line) > MAX_LINE_BYTES:
        raise TooLong(
            f"a message of type {message.get('type')!r} is {len(line)} bytes long, "
            f"at most {MAX_LINE_BYTES} are accepted"
        )
    return line


class _Connection:
    """One socket: whole lines out, messages in. Not for several threads at once."""

    def __init__(self, path: str) -> None:
        self._out = bytearray()
        self._in = bytearray()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(CONNECT_S)
            self._socket.connect(path)
            self._socket.setblocking(False)
        except OSError as error:
            self.close()
            raise Closed(f"cannot connect to {path}: {error}") from None

    def close(self) -> None:
        self._socket.close()

    def put(self, line: bytes) -> Iterator[Message]:
        """Hands a line to the kernel; yields what has come in meanwhile.

        What an interrupt leaves unsent stays in the buffer, so that lines are never cut in two.
        """
        self._out += line
        while self._out:
            # Reading first: a worker that waits for room in its answers reads nothing.
            yield from self.receive()
            try:
                sent = self._socket.send(bytes(self._out[:MAX_LINE_BYTES]), NO_SIGPIPE)
                del self._out[:sent]
            except BlockingIOError:
                self.wait(select.POLLIN | select.POLLOUT, -1)
            except OSError as error:
                raise Closed(f"the connection is lost: {error}") from None

    def receive(self) -> Iterator[Message]:
        """The messages that have come in; does not wait."""
        yield from self._lines()
        while True:
            try:
                chunk = self._socket.recv(RECEIVE_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                raise Closed(f"the connection is lost: {error}") from None
            if not chunk:
                raise Closed("the worker has closed the connection")
            self._in += chunk
            yield from self._lines()

    def _lines(self) -> Iterator[Message]:
        while (end := self._in.find(b"\n")) >= 0:
            line = bytes(self._in[:end])
            del self._in[: end + 1]
            try:
                message = json.loads(line)
            except ValueError:
                message = None
            if not isinstance(message, dict):
                raise Closed(f"the worker has sent what is no message: {line[:80]!r}")
            yield message
        if len(self._in) > MAX_LINE_BYTES:
            raise Closed(f"the worker has sent a line of over {MAX_LINE_BYTES} bytes")

    def wait(self, events: int, timeout_ms: float) -> None:
        """Until the socket is ready, or the time is over."""
        waiting = select.poll()
        try:
            waiting.register(self._socket, events)
        except (ValueError, OSError):
            return  # Another thread has closed it, and the next look will say so.
        waiting.poll(timeout_ms)


class Channel:
    """A channel that has been opened: what the welcome said, and requests.

    A connection that is lost is made anew once, in the middle of the call that notices; the line that could
    not be sent is sent again. Then calls raise `Closed`.

    Raises:
        Closed: nobody answers at `path`, or the worker does not accept this program.
    """

    def __init__(self, path: str, token: str) -> None:
        self._path = path
        self._token = token
        self._lock = threading.RLock()
        self._ids = itertools.count(1)
        self._waiting: Set[int] = set()
        self._answers: Dict[int, Message] = {}
        self._abandoned = False
        # What was said, counted, and how much of it the worker had read when it last said whether to stop.
        self._said = 0
        self._said_before_answer = 0
        self.stop: Optional[str] = None
        self._connection = self._open()

    def _open(self) -> _Connection:
        if self._abandoned:
            raise Closed("the channel was given up")
        connection = _Connection(self._path)
        hello = {"type": "hello", "version": VERSION, "token": self._token}
        deadline = time.monotonic() + CONNECT_S
        try:
            received = list(connection.put(encode(hello)))
            while not received:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise Closed(f"no welcome within {CONNECT_S:.0f} s")
                connection.wait(select.POLLIN, left * 1000)
                # A generator that ends with an error has given its messages before.
                for message in connection.receive():
                    received.append(message)
                    break
            self._welcomed(received[0])
            for message in received[1:]:
                self._take(message)
        except BaseException:
            connection.close()
            raise
        return connection

    def _welcomed(self, message: Message) -> None:
        if message.get("type") == "error":
            raise Closed(f"the worker refuses this program: {message.get('message')}")
        try:
            if message["type"] != "welcome":
                raise ValueError
            self.begun = _info.of_welcome(message)
            self._stopped(message.get("stop"))
        except (KeyError, TypeError, ValueError, AttributeError):
            raise Closed(f"the worker's first line is no welcome: {message!r:.200}") from None

    def _take(self, message: Message) -> None:
        kind, its_id = message.get("type"), message.get("id")
        if kind == "stop":
            self._stopped(message.get("reason"))
        if its_id in self._waiting:
            self._answers[its_id] = message
        elif kind == "error":
            text = str(message.get("message"))
            warn_once(text, f"Trainyard has refused what this program said: {text}")

    def _stopped(self, reason: Any) -> None:
        if URGENCY.get(reason, 0) > URGENCY[self.stop]:
            self.stop = reason

    def send(self, message: Message) -> None:
        """Says something that is answered only if it is refused, which a later call finds out and logs.

        Raises:
            Closed: the connection is lost for good.
            TooLong: see `encode`.
        """
        line = encode(message)
        with self._lock:
            self._said += 1
            self._transmit(line)

    def _transmit(self, line: bytes) -> None:
        try:
            for message in self._connection.put(line):
                self._take(message)
        except Closed:
            self._reopen()
            for message in self._connection.put(line):
                self._take(message)

    def _reopen(self) -> None:
        self._connection.close()
        self._connection = self._open()

    def _look(self) -> None:
        for message in self._connection.receive():
            self._take(message)

    def ask(self, message: Message, patience_s: Optional[float] = None) -> Message:
        """A request and its answer. Other threads may use the channel meanwhile.

        Raises:
            Refused: the answer is an error.
            Closed: the connection is lost for good.
            TimeoutError: no answer within `patience_s` seconds; `None` waits for as long as it takes.
            TooLong: see `encode`.
        """
        its_id = next(self._ids)
        line = encode({**message, "id": its_id})
        begun = time.monotonic()
        repeated = False
        with self._lock:
            self._said += message.get("type") != "should_stop"
            self._waiting.add(its_id)
            self._transmit(line)
        try:
            while True:
                with self._lock:
                    connection = self._connection
                    try:
                        self._look()
                    except Closed:
                        if its_id not in self._answers:
                            if repeated:
                                raise
                            repeated = True
                            self._reopen()
                            self._transmit(line)
                    if its_id in self._answers:
                        return _answer(self._answers[its_id])
                waited = time.monotonic() - begun
                if patience_s is not None and waited > patience_s:
                    raise TimeoutError
                if waited > SLOW_S:
                    kind = str(message.get("type"))
                    warn_once(
                        f"slow {kind}",
                        f"a {kind} has waited for over {SLOW_S:.0f} s to be taken over",
                    )
                connection.wait(select.POLLIN, LOOK_AGAIN_MS)
        finally:
            with self._lock:
                self._waiting.discard(its_id)
                self._answers.pop(its_id, None)

    def should_stop(self) -> Optional[str]:
        """Why this program is to end, if it is: "rung", "leave" or "cancel".

        Asks the worker only where something was said since the last question: otherwise it would have told.

        Raises:
            Closed: the connection is lost for good.
        """
        with self._lock:
            try:
                self._look()
            except Closed:
                self._reopen()
            said = self._said
            if self.stop is not None or said == self._said_before_answer:
                return self.stop
        try:
            answer = self.ask({"type": "should_stop"}, STOP_ANSWER_S)
            with self._lock:
                self._stopped(answer.get("reason"))
                self._said_before_answer = max(self._said_before_answer, said)
        except (Refused, TimeoutError) as error:
            why = str(error) or f"no answer within {STOP_ANSWER_S:.0f} s"
            warn_once("should_stop", f"cannot learn whether to stop: {why}")
        return self.stop

    def abandon(self) -> None:
        """Closes this process's end without a word; in a forked child the parent's stays open."""
        self._abandoned = True
        self._connection.close()


def _answer(message: Message) -> Message:
    if message.get("type") == "error":
        raise Refused(str(message.get("message")))
    return message
