"""Passes scanners' reports to the writer, and who was shown what, from any thread of the server or the web process.

In: requests from association threads, each of which waits for its answer; and the answers in the `AccessBuffer`, for
which nobody waits. Out: frames on the process's one connection to the entry queue. A separate thread drives this
connection, so that it still works while the main loop waits for associations to end. When the writer restarts, the
client sends the same frame with the same id again. If no answer came in time, the report may or may not be stored: if
the scanner sends the same report again, it gets the missed answer.
"""

from __future__ import annotations

import hashlib
import json
import selectors
import socket
import threading
import time
import uuid
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from pylantir.errors import MppsRefused, WriterUnavailable
from pylantir.ipc.accesses import write_accesses
from pylantir.ipc.frames import MAX_REPORT_FRAME_BYTES, Frame, encode_body
from pylantir.mpps.model import DimseStatus, ErrorId, MppsAnswer, MppsRequest
from workers.child.accesses import AccessBuffer
from workers.child.producer import WriterConnection
from workers.child.threads import start_thread

LAST_ACCESSES_S = 0.5
"""How long the end of the process waits for the writer to take what is in the `AccessBuffer`."""
ACKNOWLEDGEMENT_GRACE_S = 1.0
"""How long the COMMIT and the answer of a report may take that was ready at the last moment."""
MAX_UNANSWERED = 64
"""How many of the latest unanswered reports are remembered."""


@dataclass(slots=True, eq=False)
class _Waiting:
    """A report, and whether its thread has been answered."""

    request_id: str
    expires_at: float
    body: bytes
    answered: threading.Event = field(default_factory=threading.Event)
    answer: Frame | None = None


class ReportClient:
    """A process's line to the writer, for scanners' reports and for who was shown what.

    Args:
        address: The entry queue's socket.
        hello: This process's identity and token.
        timeout_s: How long a report may wait for the writer.
        accesses: The answers that the writer stores; None: there are none.
    """

    def __init__(
        self,
        address: Path,
        hello: Mapping[str, object],
        timeout_s: float,
        *,
        accesses: AccessBuffer | None = None,
    ) -> None:
        self._writer = WriterConnection(address, hello, limit=MAX_REPORT_FRAME_BYTES)
        self._timeout_s = timeout_s
        self._incoming: deque[_Waiting] = deque()
        self._sent: dict[str, _Waiting] = {}
        self._unanswered: dict[bytes, str] = {}
        self._unanswered_lock = threading.Lock()
        self._accesses = accesses
        self._accesses_sent: str | None = None
        self._closing = False
        self._close_at = float("inf")
        self._wakeup, self._waker = socket.socketpair()
        for end in (self._wakeup, self._waker):
            end.setblocking(False)
        if accesses:
            accesses.wake = self._wake
        self._thread = start_thread(self._deliver_reports, name="reports")

    def report(self, request: MppsRequest) -> MppsAnswer:
        """Send a report to the writer and wait for its COMMIT. For any thread.

        Raises:
            WriterUnavailable: No answer came in time.
            MppsRefused: The report is too large; sending it again would not help.
        """
        request = self._as_repeat(request)
        expires_at = time.monotonic() + max(self._timeout_s - ACKNOWLEDGEMENT_GRACE_S, self._timeout_s / 2)
        frame = {
            "kind": "report", "cycle": request.request_id, "seq": 1, "expires_at": expires_at,
            "request": request.as_json(),
        }  # fmt: skip
        body = encode_body(frame)
        if len(body) > MAX_REPORT_FRAME_BYTES:
            raise MppsRefused(DimseStatus.PROCESSING_FAILURE, ErrorId.TOO_LARGE, "the report is too large")
        waiting = _Waiting(request.request_id, expires_at, body)
        self._incoming.append(waiting)
        self._wake()
        waiting.answered.wait(self._timeout_s)
        if waiting.answer is None or waiting.answer.get("expired"):
            self._note_unanswered(request)
            raise WriterUnavailable(f"the writer did not answer within {self._timeout_s:g} s (mpps.timeout)")
        return MppsAnswer.from_json(waiting.answer)

    def _as_repeat(self, request: MppsRequest) -> MppsRequest:
        """Give a repeated report the id of its first attempt, if that got no answer."""
        with self._unanswered_lock:
            earlier = self._unanswered.pop(_content_of(request), None) if self._unanswered else None
        return replace(request, repeats=earlier) if earlier else request

    def _note_unanswered(self, request: MppsRequest) -> None:
        with self._unanswered_lock:
            self._unanswered[_content_of(request)] = request.kept_as
            if len(self._unanswered) > MAX_UNANSWERED:
                del self._unanswered[next(iter(self._unanswered))]

    def close(self) -> None:
        """End the connection, after the last answers if the writer takes them at once; waiting reports time out."""
        self._close_at = time.monotonic() + LAST_ACCESSES_S
        self._closing = True
        self._wake()
        self._thread.join()
        self._writer.close()
        self._wakeup.close()
        self._waker.close()

    def _wake(self) -> None:
        # If the pipe is full, the thread is awake already.
        with suppress(BlockingIOError):
            self._waker.send(b"\0")

    def _deliver_reports(self) -> None:
        while not self._closing or (self._has_accesses() and time.monotonic() < self._close_at):
            self._writer.service()
            self._deliver()
            self._send_accesses()
            while self._incoming and not self._writer.is_full:
                waiting = self._incoming.popleft()
                if time.monotonic() > waiting.expires_at:
                    continue
                self._sent[waiting.request_id] = waiting
                self._writer.send(waiting.request_id, 1, waiting.body)
            self._wait()

    def _deliver(self) -> None:
        for request_id in list(self._sent):
            answer = self._writer.take_summary(request_id)
            if answer is not None:
                waiting = self._sent.pop(request_id)
                waiting.answer = answer
                waiting.answered.set()

    def _has_accesses(self) -> bool:
        return self._accesses is not None and (self._accesses_sent is not None or not self._accesses.is_empty)

    def _send_accesses(self) -> None:
        """Send the answers of the last moments in one frame, if the writer has taken the frame before."""
        if self._accesses is None:
            return
        if self._accesses_sent and self._writer.take_summary(self._accesses_sent) is not None:
            self._accesses_sent = None
        # A place in the window stays free: a scanner waits for its report, nobody for these.
        if self._accesses_sent or self._writer.is_full:
            return
        taken = self._accesses.take(at_once=self._closing)
        if taken:
            self._accesses_sent = uuid.uuid4().hex
            self._writer.send(self._accesses_sent, 1, encode_body(write_accesses(self._accesses_sent, *taken)))

    def _pause_s(self) -> float | None:
        may_send = self._accesses and not self._accesses_sent and not self._writer.is_full
        due_in_s = self._accesses.due_in_s if self._accesses and may_send else None
        pauses = (self._writer.retry_in_s, due_in_s, LAST_ACCESSES_S / 10 if self._closing else None)
        return min((pause for pause in pauses if pause is not None), default=None)

    def _wait(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._wakeup, selectors.EVENT_READ)
            sock = self._writer.sock
            if sock:
                selector.register(sock, selectors.EVENT_READ | (selectors.EVENT_WRITE if sock.wants_to_write else 0))
            selector.select(self._pause_s())
        with suppress(BlockingIOError):
            while self._wakeup.recv(512):
                pass


def _content_of(request: MppsRequest) -> bytes:
    """Return the contents of a report, whichever request carries it."""
    said = json.dumps(replace(request, repeats="").as_json(), sort_keys=True).encode()
    return hashlib.sha256(said).digest()
