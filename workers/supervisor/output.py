"""Reads a child's stdout and stderr apart from its log: prints, a C library's messages, a traceback on abort.

Lives in the supervisor. In: a pipe's end; out: lines for the log, and the last of them as evidence of a crash. The
supervisor reads a limited amount per second, so a child that writes too much costs neither memory nor time.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Sequence
from multiprocessing.connection import Connection

from pylantir.printing import make_redactor

KEPT_LINES = 20
LOGGED_LINES_PER_MINUTE = 200
_LONGEST_LINE = 500
_READ_BYTES = 64 * 1024
_READS_PER_S = 16


class ChildOutput:
    """The output of a role's incarnations, one after the other."""

    def __init__(self) -> None:
        self._redact = make_redactor(())
        self._pipe: Connection | None = None
        self._tail: deque[str] = deque(maxlen=KEPT_LINES)
        self._begun = b""
        self._reads = self._second = 0
        self._logged = self._omitted = self._minute = 0

    def attach(self, pipe: Connection, secrets: Sequence[str] = ()) -> None:
        """Listen to a new incarnation, and forget the kept lines of the previous one.

        Args:
            pipe: The end to read from.
            secrets: Values to strike out.
        """
        os.set_blocking(pipe.fileno(), False)
        self._redact = make_redactor(secrets)
        self._pipe = pipe
        self._tail.clear()

    def filenos(self, now: float) -> list[int]:
        """What the supervisor's loop should wait for; nothing once the child has written enough for this second."""
        return [self._pipe.fileno()] if self._pipe and not self._is_exhausted(now) else []

    def deadline(self, now: float) -> float | None:
        """When to listen again (monotonic seconds), if not now."""
        return self._second + 1.0 if self._pipe and self._is_exhausted(now) else None

    def take(self, now: float) -> list[str]:
        """Read what is available now, at most one piece; return the lines to log."""
        if self._pipe is None or self._is_exhausted(now):
            return []
        data = self._read(self._pipe)
        self._reads += bool(data)
        return self._admit(data, now)

    def detach(self, now: float) -> list[str]:
        """The child has ended: read what is left in the pipe; return the lines to log."""
        data = b""
        # Two readings empty a full pipe; we do not wait for processes that have inherited it from the child.
        for _ in range(2):
            data += self._read(self._pipe) if self._pipe else b""
        self._close()
        # The end of the file may have been read before: the last, unfinished line must still be logged.
        return self._admit(data + b"\n", now)

    def remember(self, text: str) -> None:
        """Keep lines that reached the log in another way."""
        self._tail.extend(line[:_LONGEST_LINE] for line in text.splitlines()[-KEPT_LINES:])

    def last_words(self) -> tuple[str, ...]:
        """The last lines."""
        return tuple(self._tail)

    def _read(self, pipe: Connection) -> bytes:
        with contextlib.suppress(BlockingIOError):
            data = os.read(pipe.fileno(), _READ_BYTES)
            if not data:
                self._close()
            return data
        return b""

    def _close(self) -> None:
        if self._pipe:
            self._pipe.close()
            self._pipe = None

    def _is_exhausted(self, now: float) -> bool:
        if int(now) != self._second:
            self._second, self._reads = int(now), 0
        return self._reads >= _READS_PER_S

    def _admit(self, data: bytes, now: float) -> list[str]:
        *whole, begun = (self._begun + data).split(b"\n")
        self._begun = begun[:_LONGEST_LINE]
        lines = [self._strike_out(line) for line in whole if line.strip()]
        self._tail.extend(lines[-KEPT_LINES:])
        if int(now // 60) != self._minute:
            self._minute, self._logged = int(now // 60), 0
        logged = lines[: max(0, LOGGED_LINES_PER_MINUTE - self._logged)]
        self._logged += len(logged)
        said_before = self._omitted
        self._omitted += len(lines) - len(logged)
        if logged and said_before:
            logged.append(f"({said_before} lines of this output are left out)")
            self._omitted -= said_before
        return logged

    def _strike_out(self, line: bytes) -> str:
        return self._redact(line.decode("utf-8", "replace").rstrip("\r"))[:_LONGEST_LINE]
