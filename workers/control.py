"""The control socket: how `status`, `stop` and the other commands reach the running supervisor.

One request frame, one answer frame, both JSON. The server half lives in the supervisor's loop and never waits; what
the commands of `pylantir-supervisor` wait for stands below it, on the client half of `pylantir.wire.control`.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil

from pylantir.errors import ControlError, ProtocolError
from pylantir.wire.control import ask_supervisor
from pylantir.wire.frames import Frame, FrameSocket, encode_frame

_REQUEST_BYTES = 64 * 1024
_MAX_CLIENTS = 32
_CLIENT_TIMEOUT_S = 5.0
_POLL_S = 0.02

Obey = Callable[[Frame], Mapping[str, object]]


class ControlServer:
    """Answers commands in the supervisor.

    Args:
        listener: The control socket.
        obey: Carries out a request and returns the answer.
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
                client.send(encode_frame(self._obey(request)))
        except ProtocolError:
            client.closed = True
        client.flush()


def reload_supervisor(runtime_dir: Path, timeout_s: float = 30.0) -> list[str]:
    """Let the supervisor read its configuration again; returns the problems for which it refused, if any.

    Raises:
        ControlError: It did not come to an end in time.
    """
    before = ask_supervisor(runtime_dir, {"command": "reload"})["number"]
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        reload = ask_supervisor(runtime_dir, {"command": "status"})["reload"]
        if isinstance(reload, dict) and reload["number"] != before:
            return list(reload["problems"])
        time.sleep(_POLL_S)
    msg = "the supervisor has not finished reading its configuration; see its log"
    raise ControlError(msg)


def wait_until_gone(pids: list[int], timeout_s: float) -> list[int]:
    """Wait until these processes have ended (a zombie has); returns those that have not in time."""
    processes = []
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            processes.append(psutil.Process(pid))
    deadline = time.monotonic() + timeout_s
    while processes and time.monotonic() < deadline:
        processes = [process for process in processes if _lives(process)]
        time.sleep(_POLL_S)
    return [process.pid for process in processes]


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
