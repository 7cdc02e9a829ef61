"""The control socket: how `status`, `stop` and the other commands reach the running supervisor.

One request frame, one answer frame, both JSON. The server lives in the supervisor's loop and never waits; the commands'
half is `pylantir.ipc.control`.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Mapping

from pylantir.errors import ProtocolError
from pylantir.ipc.frames import Frame, FrameSocket, encode_frame

_REQUEST_BYTES = 64 * 1024
_MAX_CLIENTS = 32
_CLIENT_TIMEOUT_S = 60.0
_POLL_S = 0.02

Reply = Callable[[Mapping[str, object]], None]
Obey = Callable[[Frame, Reply], None]


class ControlServer:
    """Answers commands in the supervisor.

    Args:
        listener: The control socket.
        obey: Carries out a request and gives the answer to `Reply`, at once or later.
    """

    def __init__(self, listener: socket.socket, obey: Obey) -> None:
        self._listener = listener
        self._obey = obey
        self._clients: dict[FrameSocket, float] = {}

    def filenos(self) -> list[int]:
        """What the supervisor's loop should wait for."""
        return [self._listener.fileno(), *(client.fileno() for client in self._clients)]

    def service(self) -> None:
        """Accept, read, answer; whatever is possible now."""
        with contextlib.suppress(OSError):
            sock, _ = self._listener.accept()
            if len(self._clients) < _MAX_CLIENTS:
                self._clients[FrameSocket(sock, limit=_REQUEST_BYTES)] = time.monotonic()
            else:
                sock.close()
        for client, since in list(self._clients.items()):
            self._serve(client)
            finished = client.closed and not client.wants_to_write
            if finished or time.monotonic() - since > _CLIENT_TIMEOUT_S:
                client.close()
                del self._clients[client]

    def close(self) -> None:
        """Close everything."""
        for client in self._clients:
            client.close()
        self._clients.clear()
        self._listener.close()

    def _serve(self, client: FrameSocket) -> None:
        try:
            for request in client.receive():
                self._obey(request, lambda answer: client.send(encode_frame(answer)))
        except ProtocolError:
            client.closed = True
        client.flush()
