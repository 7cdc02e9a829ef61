"""The writer's side of the entry queue: a local socket with one connection per producer.

Lives in the writer. In: frames of sources and of the server; out: one whole frame at a time, from each producer in
turn. A plugin is foreign code, so the writer checks everything. A producer that is killed, stopped, slow or hostile
does not delay others: nothing here blocks, and each connection holds a bounded number of bytes.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from pylantir.errors import ProtocolError
from pylantir.ipc.batch import VERSION
from pylantir.ipc.frames import MAX_FRAME_BYTES, MAX_REPORT_FRAME_BYTES, Frame, FrameSocket, encode_frame
from workers.child.producer import WINDOW

MAX_STRANGERS = 64
HELLO_TIMEOUT_S = 5.0
ACCEPT_AGAIN_S = 1.0
_HELLO_BYTES = 4096
_ANSWER_BACKLOG_BYTES = 1024 * 1024

logger = logging.getLogger(__name__)


class HasFileno(Protocol):
    """Anything that a selector can watch."""

    def fileno(self) -> int:
        """Its descriptor."""


def make_token(key: bytes, role: str, source: str | None, generation: int) -> str:
    """Make the token of one incarnation; this needs the run's key.

    Args:
        key: The run's key, known to the supervisor and the writer.
        role: `source`, `mwl-scp` or `web`.
        source: The source's name.
        generation: The incarnation.
    """
    identity = f"{role}\n{source or ''}\n{generation}".encode()
    return hmac.new(key, identity, hashlib.sha256).hexdigest()


@dataclass(slots=True, eq=False)
class Producer:
    """One connection, and the producer behind it once it has identified itself.

    Attributes:
        waiting: Frames that have come and are not finished.
        tries: How often the first of them has failed by itself.
        held_until: Before this moment (monotonic seconds) it is not tried again; others go on meanwhile.
    """

    frames: FrameSocket
    opened_at: float
    role: str | None = None
    source: str | None = None
    generation: int = 0
    waiting: deque[Frame] = field(default_factory=deque)
    tries: int = 0
    held_until: float = 0.0

    @property
    def label(self) -> str:
        """The producer's name for the log."""
        return f"source {self.source}" if self.source else (self.role or "stranger")

    def answer(self, value: Mapping[str, object]) -> None:
        """Send a frame; a producer that does not read its answers is cut off."""
        if self.frames.backlog_bytes > _ANSWER_BACKLOG_BYTES:
            self.frames.closed = True
        else:
            self.frames.send(encode_frame(value))


class EntryQueue:
    """Accepts producers and hands out their frames.

    Args:
        listener: The socket that the supervisor holds: connections wait in it while a writer restarts.
        key: This run's key.
        greet: Makes the welcome for a producer that has proved its identity; None: it must connect again later.
    """

    def __init__(
        self, listener: socket.socket, key: bytes, greet: Callable[[Producer], Mapping[str, object] | None]
    ) -> None:
        self._listener = listener
        self._key = key
        self._greet = greet
        self._selector = selectors.DefaultSelector()
        self._producers: deque[Producer] = deque()
        self._latest: dict[tuple[str, str | None], int] = {}
        self._accept_again_at: float | None = None
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ, self._accept)

    def watch(self, fileobj: HasFileno, callback: Callable[[], None]) -> None:
        """Let `wait` watch another descriptor as well."""
        self._selector.register(fileobj, selectors.EVENT_READ, callback)

    def wait(self, timeout_s: float | None) -> None:
        """Do all input and output that is possible now; wait at most `timeout_s` seconds for some."""
        if self._accept_again_at is not None and time.monotonic() >= self._accept_again_at:
            self._accept_again_at = None
            self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        strangers = [one for one in self._producers if one.role is None]
        limits = [timeout_s, HELLO_TIMEOUT_S if strangers else None, ACCEPT_AGAIN_S if self._accept_again_at else None]
        timeout_s = min((limit for limit in limits if limit is not None), default=None)
        for key, mask in self._selector.select(timeout_s):
            if isinstance(key.data, Producer):
                self._exchange(key.data, mask)
            else:
                key.data()
        now = time.monotonic()
        for producer in strangers:
            if producer.role is None and now - producer.opened_at > HELLO_TIMEOUT_S:
                self._drop(producer, "said nothing")
        for producer in list(self._producers):
            self._settle(producer)

    def take(self) -> tuple[Producer, Frame] | None:
        """Return the next frame or None: scanners' reports first, because a scanner waits; then each source in turn."""
        for producer in self._producers:
            if producer.role in {"mwl-scp", "web"} and producer.waiting:
                return producer, producer.waiting[0]
        now = time.monotonic()
        for _ in range(len(self._producers)):
            producer = self._producers[0]
            self._producers.rotate(-1)
            if producer.waiting and now >= producer.held_until:
                return producer, producer.waiting[0]
        return None

    def next_retry(self) -> float | None:
        """When the first frame that is held back may be tried again (monotonic seconds)."""
        return min((one.held_until for one in self._producers if one.waiting and one.tries), default=None)

    def finish(self, producer: Producer) -> None:
        """Mark the frame from `take` as finished; otherwise `take` returns it again."""
        if producer.waiting:
            producer.waiting.popleft()
        producer.tries, producer.held_until = 0, 0.0
        self._settle(producer)

    def greet_again(self, source: str) -> None:
        """Send a source a new welcome, which makes its present cycle void; what it has sent so far is dropped."""
        for producer in [one for one in self._producers if one.source == source]:
            welcome = self._greet(producer)
            if welcome is None:
                # It connects again, and is told then.
                self._forget(producer)
                continue
            producer.waiting.clear()
            producer.tries, producer.held_until = 0, 0.0
            producer.answer({**welcome, "anew": True})
            self._settle(producer)

    @property
    def depth(self) -> int:
        """The number of waiting frames."""
        return sum(len(producer.waiting) for producer in self._producers)

    def drop(self, producer: Producer, reason: str) -> None:
        """Close a producer's connection and forget its frames."""
        self._drop(producer, reason)

    def close(self) -> None:
        """Close every connection; the listener stays with the supervisor."""
        for producer in list(self._producers):
            producer.frames.flush()
            self._forget(producer)
        self._selector.close()

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:
            # No descriptor or memory is left: asked again at once, the selector would report the same for ever.
            logger.warning("nobody can connect just now: %s", error)
            self._selector.unregister(self._listener)
            self._accept_again_at = time.monotonic() + ACCEPT_AGAIN_S
            return
        strangers = [producer for producer in self._producers if producer.role is None]
        if len(strangers) >= MAX_STRANGERS:
            # Drop the one that has been silent for longest: a genuine producer identifies itself at once.
            self._drop(min(strangers, key=lambda one: one.opened_at), "too many connections that say nothing")
        producer = Producer(FrameSocket(sock, limit=_HELLO_BYTES), time.monotonic())
        self._producers.append(producer)
        self._selector.register(producer.frames, selectors.EVENT_READ, producer)

    def _exchange(self, producer: Producer, mask: int) -> None:
        if mask & selectors.EVENT_WRITE:
            producer.frames.flush()
        if not mask & selectors.EVENT_READ:
            return
        try:
            for frame in producer.frames.receive():
                if producer.role is None:
                    self._introduce(producer, frame)
                else:
                    producer.waiting.append(frame)
        except ProtocolError as error:
            self._drop(producer, str(error))

    def _introduce(self, producer: Producer, hello: Frame) -> None:
        """Check a connection's identity; a newer incarnation closes the older one and drops its waiting frames."""
        role, source, generation = hello.get("role"), hello.get("source"), hello.get("generation")
        token = hello.get("token")
        if (
            hello.get("kind") != "hello"
            or not isinstance(role, str)
            or not isinstance(source, str | None)
            or type(generation) is not int
            or not isinstance(token, str)
            or not token.isascii()
            or not hmac.compare_digest(token, make_token(self._key, role, source, generation))
        ):
            msg = "did not prove who it is"
            raise ProtocolError(msg)
        if hello.get("version", VERSION) != VERSION:
            msg = "speaks another version of the entry queue; restart the supervisor after an upgrade"
            raise ProtocolError(msg)
        if generation < self._latest.get((role, source), 0):
            msg = "superseded by a newer incarnation"
            raise ProtocolError(msg)
        for other in list(self._producers):
            if other.role == role and other.source == source:
                self._forget(other)
        self._latest[role, source] = generation
        producer.role, producer.source, producer.generation = role, source, generation
        producer.frames.reader.limit = MAX_REPORT_FRAME_BYTES if source is None else MAX_FRAME_BYTES
        welcome = self._greet(producer)
        if welcome is None:
            self._forget(producer)
        else:
            producer.answer(welcome)

    def _settle(self, producer: Producer) -> None:
        """Set the events to watch for: reading while the window is not full, writing while bytes wait."""
        if producer not in self._producers:
            return
        if producer.frames.closed and not producer.waiting:
            self._forget(producer)
            return
        mask = 0
        if not producer.frames.closed:
            if len(producer.waiting) < WINDOW:
                mask |= selectors.EVENT_READ
            if producer.frames.wants_to_write:
                mask |= selectors.EVENT_WRITE
        registered = self._selector.get_map().get(producer.frames.fileno())
        if registered is None:
            if mask:
                self._selector.register(producer.frames, mask, producer)
        elif not mask:
            self._selector.unregister(producer.frames)
        elif registered.events != mask:
            self._selector.modify(producer.frames, mask, producer)

    def _drop(self, producer: Producer, reason: str) -> None:
        logger.warning("connection of %s closed: %s", producer.label, reason)
        self._forget(producer)

    def _forget(self, producer: Producer) -> None:
        if producer in self._producers:
            self._producers.remove(producer)
            if producer.frames.fileno() in self._selector.get_map():
                self._selector.unregister(producer.frames)
        producer.waiting.clear()
        producer.frames.close()
