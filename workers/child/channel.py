"""The channel between a child and the supervisor: the child reports that it is ready, alive, and what it has done.

Lives in every child. The work loop itself sends signs of life, never a helper thread. Each says within how many seconds
the next one will come, so that the supervisor can tell a hang from a long fetch.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Mapping

from pylantir.ipc.frames import Frame, FrameSocket, encode_frame
from workers.child.log_output import dropped_lines

_BACKLOG_LIMIT_BYTES = 256 * 1024
_LAST_WORDS = 4000


class Channel:
    """The child's end.

    Args:
        sock: This child's end of the pair that the supervisor made.
        clock: Monotonic time in seconds.

    Attributes:
        reopen_log: Called when the supervisor says that the log file was moved away.
    """

    def __init__(self, sock: socket.socket, clock: Callable[[], float] = time.monotonic) -> None:
        self._frames = FrameSocket(sock, limit=64 * 1024)
        self._clock = clock
        self._lock = threading.Lock()
        self._last_beat = float("-inf")
        self._promised_s = 0.0
        self._told_dropped = 0
        self.reopen_log: Callable[[], object] | None = None

    def fileno(self) -> int:
        """The descriptor for a selector: readable when the supervisor has said something, or has gone."""
        return self._frames.fileno()

    @property
    def supervisor_gone(self) -> bool:
        """Whether the supervisor's end is closed, which happens only when the supervisor dies."""
        return self._frames.closed

    def receive(self) -> list[Frame]:
        """Return the supervisor's messages for the body."""
        messages = self._frames.receive()
        if self.reopen_log and any(message.get("kind") == "reopen-log" for message in messages):
            self.reopen_log()
        return [message for message in messages if message.get("kind") != "reopen-log"]

    def ready(self) -> None:
        """Say that this process is ready."""
        self._send({"kind": "ready"})

    def beat(self, within_s: float, *, at_most_every_s: float = 0.0) -> None:
        """Give a sign of life, and promise the next one within `within_s` seconds."""
        now = self._clock()
        if within_s != self._promised_s or now - self._last_beat >= at_most_every_s:
            self._last_beat, self._promised_s = now, within_s
            self._send({"kind": "beat", "within_s": within_s})
            if (dropped := dropped_lines()) != self._told_dropped:
                self._told_dropped = dropped
                self.report({"log_dropped": dropped})

    def report(self, values: Mapping[str, object]) -> None:
        """Send the values that `status` shows for this process."""
        self._send({"kind": "report", "values": dict(values)})

    def answer(self, command_id: object, **result: str) -> None:
        """Send the result of a command: `text`, or `error`."""
        self._send({"kind": "result", "id": command_id, **result})

    def say_last_words(self, text: str) -> None:
        """Send a copy of an error in the log; the supervisor keeps it as evidence. For any thread."""
        self._send({"kind": "words", "text": text[-_LAST_WORDS:]})

    def _send(self, message: Mapping[str, object]) -> None:
        # A supervisor that does not read (stopped in a debugger, say) must not block its children: drop the message.
        with self._lock:
            if self._frames.backlog_bytes < _BACKLOG_LIMIT_BYTES:
                self._frames.send(encode_frame(message))
