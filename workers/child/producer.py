"""The producer's connection to the writer; it reconnects when a new writer starts.

Lives in source workers and, for scanners' reports, in the server. In: numbered frames; out: acknowledgements, each
sent by the writer after a COMMIT. The producer keeps unacknowledged frames (a bounded number) and sends them again
after a reconnect. Nothing here waits: the caller's loop waits, so that it can also notice a stop and give signs of
life.
Glossary: standing (docs/explanation/glossary.md).
"""

from __future__ import annotations

import logging
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pylantir.errors import ProtocolError
from pylantir.ipc.batch import VERSION, read_acknowledgement
from pylantir.ipc.frames import MAX_FRAME_BYTES, Frame, FrameSocket, encode_frame, frame_bytes
from pylantir.ipc.sockets import connect_to

WINDOW = 4
"""How many frames a producer may send before the first is acknowledged: the back-pressure."""

_SEND_BUFFER_BYTES = 1024 * 1024
"""Socket buffer for whole frames, if the system allows it, so that the writer need not wait for a frame's parts."""
_RECONNECT_S = 0.05
_RECONNECT_CAP_S = 1.0
WELCOME_S = 60.0
"""A connection without a welcome after this time is given up: the writer may have lost it for lack of memory. A writer
that prepares its database meanwhile finds the next one."""
_ABSENT_S = 5.0
"""A restarting writer is back sooner; after this time without a writer the producer reports trouble."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Sent:
    cycle: str
    seq: int
    frame: bytes


class WriterConnection:
    """Frames on their way to the writer.

    Args:
        address: The entry queue's socket.
        hello: This producer's identity and token.
        clock: Monotonic seconds.
        limit: Longest frame in bytes.

    Attributes:
        standing: The writer's last welcome; it says when the source was last fetched successfully.
        unkept: Passages that the writer did not remember; its owner empties it.
        trouble: Why there has been no connection for a while; None if all is well.
        failed: Cycle -> why the writer cannot store it; its owner empties it.
    """

    def __init__(
        self,
        address: Path,
        hello: Mapping[str, object],
        clock: Callable[[], float] = time.monotonic,
        limit: int = MAX_FRAME_BYTES,
    ) -> None:
        self.standing: Frame | None = None
        self.unkept: set[int] = set()
        self.trouble: str | None = None
        self._absent_since: float | None = None
        self.failed: dict[str, str] = {}
        self._address = address
        self._hello = encode_frame({"kind": "hello", "version": VERSION, **hello})
        self._clock = clock
        self._limit = limit
        self._frames: FrameSocket | None = None
        self._welcomed = False
        self._unacknowledged: deque[_Sent] = deque()
        self._summaries: dict[str, Frame] = {}
        self._retry_at = self._welcome_by = 0.0
        self._retry_delay = _RECONNECT_S

    @property
    def sock(self) -> FrameSocket | None:
        """The connection, for a selector; None while there is none."""
        return self._frames

    @property
    def retry_in_s(self) -> float | None:
        """Seconds until the next attempt to connect; None while connected."""
        return None if self._frames else max(0.0, self._retry_at - self._clock())

    @property
    def standby(self) -> str | None:
        """The host that fetches the source instead of this one; None if this one does."""
        return str(host) if (host := (self.standing or {}).get("standby")) else None

    def abandon(self) -> None:
        """Forget the frames that are not acknowledged, and the summaries that nobody has taken."""
        self._unacknowledged.clear()
        self._summaries.clear()

    @property
    def is_full(self) -> bool:
        """Whether the window is full: the caller must wait for an acknowledgement before the next frame."""
        return len(self._unacknowledged) >= WINDOW

    @property
    def is_idle(self) -> bool:
        """Whether everything is acknowledged."""
        return not self._unacknowledged

    def send(self, cycle: str, seq: int, body: bytes) -> None:
        """Send an encoded JSON object, now or after a reconnect; kept until it is acknowledged.

        Raises:
            ProtocolError: It is longer than a frame may be; it is not kept.
        """
        frame = frame_bytes(body, self._limit)
        self._unacknowledged.append(_Sent(cycle, seq, frame))
        if self._frames and self._welcomed:
            self._frames.send(frame)

    def take_summary(self, cycle: str) -> Frame | None:
        """Return once the writer's summary of a finished cycle, or its answer to a report."""
        return self._summaries.pop(cycle, None)

    def service(self) -> None:
        """Connect if it is time, read acknowledgements, and write as much as the writer takes. Never blocks."""
        if self._frames is None:
            self._connect()
        if self._frames is None:
            return
        try:
            for frame in self._frames.receive():
                self._read(frame)
        except ProtocolError:
            self._frames.closed = True
        self._frames.flush()
        if self._frames.closed or (not self._welcomed and self._clock() >= self._welcome_by):
            self._lose()

    def close(self) -> None:
        """Close the connection."""
        if self._frames:
            self._frames.close()
            self._frames = None

    def _connect(self) -> None:
        if self._clock() < self._retry_at:
            return
        try:
            sock = connect_to(self._address)
        except OSError as error:
            self._note_absence(error)
            self._lose()
            return
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        self._frames = FrameSocket(sock)
        self._welcomed = False
        self._welcome_by = self._clock() + WELCOME_S
        self._frames.send(self._hello)

    def _note_absence(self, error: OSError) -> None:
        now = self._clock()
        if self._absent_since is None:
            self._absent_since = now
        elif self.trouble is None and now - self._absent_since >= _ABSENT_S:
            self.trouble = f"the writer cannot be reached at {self._address}: {error.strerror}"
            logger.warning("%s; everything waits for it", self.trouble)

    def _lose(self) -> None:
        self.close()
        self._retry_at = self._clock() + self._retry_delay
        self._retry_delay = min(2 * self._retry_delay, _RECONNECT_CAP_S)

    def _read(self, frame: Frame) -> None:
        if frame.get("kind") == "welcome":
            self.standing = frame
            self._welcomed = True
            if self.trouble:
                logger.info("the writer is reached again")
            self.trouble = self._absent_since = None
            if self.standby is not None:
                self.abandon()
            for sent in self._unacknowledged:
                if self._frames:
                    self._frames.send(sent.frame)
        elif frame.get("kind") == "ack" and self._unacknowledged:
            first, told = self._unacknowledged[0], read_acknowledgement(frame)
            if (first.cycle, first.seq) == (told.cycle, told.seq):
                self._unacknowledged.popleft()
                # Not at the welcome: if the writer refused each next frame, we would reconnect 20 times a second.
                self._retry_delay = _RECONNECT_S
                self.unkept.update(told.unkept)
                if told.failed is not None:
                    self.failed[told.cycle] = told.failed
                if told.summary is not None:
                    self._summaries[told.cycle] = told.summary
