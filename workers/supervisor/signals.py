"""The signals that the supervisor hears: recorded by the handler, taken by the loop. The handler does nothing else."""

from __future__ import annotations

import signal
import socket
from types import FrameType

STOPPING = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT})
"""From service managers, and from Ctrl-C and Ctrl-\\ in a terminal."""
MEANINGLESS = frozenset({signal.SIGUSR1, signal.SIGUSR2})
"""Scripts that rotate logs send them to programs that reopen their log so; their default action would end us."""


class Signals:
    """The signals that mean something, and those that are not to end us, recorded by the handler for the loop."""

    def __init__(self) -> None:
        self._received: list[int] = []
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in (*STOPPING, *MEANINGLESS, signal.SIGHUP):
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
