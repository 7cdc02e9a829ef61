"""The signals that the supervisor hears: recorded by the handler, taken by the loop. The handler does nothing else."""

from __future__ import annotations

import signal
import socket
from types import FrameType


class Signals:
    """SIGTERM, SIGINT and SIGHUP, recorded by the handler and read by the loop."""

    def __init__(self) -> None:
        self._received: list[int] = []
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._record)

    @property
    def waitable(self) -> socket.socket:
        """Readable after a signal."""
        return self._reader

    def take(self) -> list[int]:
        """The signals since the last call."""
        try:
            while self._reader.recv(512):
                pass
        except BlockingIOError:
            pass
        received, self._received = self._received, []
        return received

    def _record(self, number: int, _frame: FrameType | None) -> None:
        self._received.append(number)
