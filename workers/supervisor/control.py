"""The control socket, by which `status`, `stop` and the other commands reach the running supervisor.

One request frame, one answer frame, both JSON. The server lives in the supervisor's loop and never waits; the commands'
half is `pylantir.ipc.control`. A malformed request, or one whose work raises, affects nothing but itself.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pylantir.errors import ProtocolError
from pylantir.ipc.frames import Frame, FrameSocket, encode_frame

REQUEST_BYTES = 32 * 1024
"""The longest request. It may be passed on to the writer, whose channel takes twice as much."""
MAX_CLIENTS = 32
STRANGER_S = 5.0
"""A command sends its request at once; after this time the supervisor closes a connection that has sent none."""
ANSWER_S = 120.0
"""How long a request may wait for its answer."""
_ACCEPT_AGAIN_S = 1.0
_ACCEPTED_AT_ONCE = 16

Reply = Callable[[Mapping[str, object]], None]
Obey = Callable[[Frame, Reply], None]

logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Client:
    """One connection.

    Attributes:
        frames: Its socket.
        since: When it was accepted (monotonic seconds).
        has_asked: It has sent a request.
    """

    frames: FrameSocket
    since: float
    has_asked: bool = False

    def answer(self, value: Mapping[str, object]) -> None:
        """Send an answer, now or as soon as the client takes it."""
        try:
            self.frames.send(encode_frame(value))
        except ProtocolError as error:
            self.frames.send(encode_frame({"error": f"the answer is too long: {error}"}))

    def is_over(self, now: float) -> bool:
        """Whether the connection is finished."""
        if self.frames.closed and not self.frames.wants_to_write:
            return True
        return now - self.since > (ANSWER_S if self.has_asked else STRANGER_S)


class ControlServer:
    """Answers commands in the supervisor.

    Args:
        listener: The control socket.
        obey: Carries out a request and passes the answer to `Reply`, at once or later.
        clock: Monotonic seconds.
    """

    def __init__(self, listener: socket.socket, obey: Obey, clock: Callable[[], float] = time.monotonic) -> None:
        self._listener = listener
        self._obey = obey
        self._clock = clock
        self._clients: list[_Client] = []
        self._accept_at = 0.0

    def filenos(self) -> list[int]:
        """What the supervisor's loop should wait for."""
        accepting = [self._listener.fileno()] if self._clock() >= self._accept_at else []
        return accepting + [client.frames.fileno() for client in self._clients]

    def deadline(self) -> float | None:
        """When to look again even if nothing comes in (monotonic seconds)."""
        now = self._clock()
        moments = [client.since + (ANSWER_S if client.has_asked else STRANGER_S) + 0.01 for client in self._clients]
        return min([*moments, *([self._accept_at] if self._accept_at > now else [])], default=None)

    def service(self) -> None:
        """Accept, read and answer as far as possible now."""
        self._accept()
        for client in self._clients:
            self._serve(client)
        now = self._clock()
        for client in [client for client in self._clients if client.is_over(now)]:
            self._forget(client)

    def listen_on(self, listener: socket.socket) -> None:
        """Use another listening socket, because the name of the previous one has gone."""
        self._listener.close()
        self._listener = listener

    def close(self) -> None:
        """Close everything."""
        for client in list(self._clients):
            self._forget(client)
        self._listener.close()

    def _accept(self) -> None:
        if self._clock() < self._accept_at:
            return
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                sock, _address = self._listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                # For example, no descriptor is left: connections go on waiting, and the loop does not spin.
                logger.warning("a command cannot be answered just now: %s", error)
                self._accept_at = self._clock() + _ACCEPT_AGAIN_S
                return
            if len(self._clients) >= MAX_CLIENTS:
                # Close the one that has been silent for longest; if all have asked, the oldest.
                self._forget(min(self._clients, key=lambda client: (client.has_asked, client.since)))
            self._clients.append(_Client(FrameSocket(sock, limit=REQUEST_BYTES), self._clock()))

    def _forget(self, client: _Client) -> None:
        self._clients.remove(client)
        client.frames.close()

    def _serve(self, client: _Client) -> None:
        try:
            for request in client.frames.receive():
                client.has_asked = True
                self._carry_out(request, client)
        except ProtocolError as error:
            client.answer({"error": f"the request cannot be read: {error}"})
            client.frames.closed = True
        client.frames.flush()

    def _carry_out(self, request: Frame, client: _Client) -> None:
        if not isinstance(request.get("command"), str):
            client.answer({"error": 'a request has a "command", which is a text'})
            return
        try:
            self._obey(request, client.answer)
        except Exception:  # last resort: no request's failure may stop the processes
            logger.exception("the command %.40r failed", request["command"])
            client.answer({"error": "the command failed unexpectedly; the supervisor's log has the traceback"})
