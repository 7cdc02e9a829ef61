"""Reads a child's stdout and stderr apart from its log: prints, a C library's messages, a traceback on abort.

Lives in the supervisor. In: a pipe's end; out: lines for the log, and the last of them as evidence of a crash. What a
plugin prints may quote a patient: it is kept apart and counted, and only the interpreter's report of a crash is
evidence. The supervisor reads a limited amount per second, so a child that writes too much costs neither memory nor
time.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

from pylantir.printing import make_redactor

KEPT_LINES = 20
LOGGED_LINES_PER_MINUTE = 200
PRINTED = 'has printed lines: %d; shown with "log": {"level": "DEBUG"} only, they may quote a patient'
COUNT_AFTER_S = 1.0
"""A plugin's first printed line is counted so much later, together with those that follow it at once."""
COUNT_EVERY_S = 60.0
_LONGEST_LINE = 500
_LONGEST_BEGINNING = 16 * _LONGEST_LINE
"""Much longer than what is shown of a line: a secret that crosses the end of what is shown is still recognised."""
_READ_BYTES = 64 * 1024
_READS_PER_S = 16
_CRASH_REPORT = re.compile(
    r"Fatal Python error: .*"
    r"|Python runtime state: [a-z ]+"
    r"|(?:Current thread|Thread) 0x[0-9a-f]+ \(most recent call first\):"
    r"|  <[a-z A-Z]+>|  \.\.\."
    r'|  File "[^"]+", line (?:\d+|\?\?\?) in [\w<>.]+'
)
"""The lines that Python's faulthandler writes: kinds, files, lines and functions, no values."""


def is_crash_report(line: str) -> bool:
    """Whether a line is one of those that the interpreter writes when it crashes."""
    return _CRASH_REPORT.fullmatch(line) is not None


@dataclass(frozen=True, slots=True)
class Heard:
    """What to tell of a child's output.

    Attributes:
        lines: For the log.
        prints: What a plugin has printed: for the log at DEBUG only.
        printed: How many lines a plugin has printed since this was last told; 0 if that need not be told now.
    """

    lines: list[str] = field(default_factory=list)
    prints: list[str] = field(default_factory=list)
    printed: int = 0


class ChildOutput:
    """The output of a role's incarnations, one after the other.

    Args:
        of_plugin: A plugin runs in the child.
    """

    def __init__(self, *, of_plugin: bool = False) -> None:
        self._of_plugin = of_plugin
        self._redact = make_redactor(())
        self._pipe: Connection | None = None
        self._tail: deque[str] = deque(maxlen=KEPT_LINES)
        self._begun = b""
        self._reads = self._second = 0
        self._lines, self._prints = _LimitedLines(), _LimitedLines()
        self._printed, self._count_at = 0, 0.0

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
        """When to listen again, or to tell a count (monotonic seconds), if nothing comes before."""
        moments = [self._second + 1.0] if self._pipe and self._is_exhausted(now) else []
        return min([*moments, self._count_at] if self._printed else moments, default=None)

    def take(self, now: float) -> Heard:
        """Read what is available now, at most one piece; return what to tell."""
        data = b""
        if self._pipe and not self._is_exhausted(now):
            data = self._read(self._pipe)
            self._reads += bool(data)
        return self._admit(data, now)

    def detach(self, now: float) -> Heard:
        """The child has ended: read what is left in the pipe; return what to tell."""
        data = b""
        # Two readings empty a full pipe; we do not wait for processes that have inherited it from the child.
        for _ in range(2):
            data += self._read(self._pipe) if self._pipe else b""
        self._close()
        # The end of the file may have been read before: the last, unfinished line must still be logged.
        return self._admit(data + b"\n", now, ended=True)

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

    def _admit(self, data: bytes, now: float, *, ended: bool = False) -> Heard:
        *whole, begun = (self._begun + data).split(b"\n")
        self._begun = begun[:_LONGEST_BEGINNING]
        lines: list[str] = []
        prints: list[str] = []
        for line in map(self._decode, whole):
            if line.strip():
                chosen = prints if self._of_plugin and not is_crash_report(line) else lines
                chosen.append(self._redact(line)[:_LONGEST_LINE])
        self._tail.extend(lines[-KEPT_LINES:])
        if prints and not self._printed:
            self._count_at = max(self._count_at, now + COUNT_AFTER_S)
        self._printed += len(prints)
        printed = 0
        if self._printed and (ended or now >= self._count_at):
            printed, self._printed, self._count_at = self._printed, 0, now + COUNT_EVERY_S
        return Heard(self._lines.admit(lines, now), self._prints.admit(prints, now), printed)

    def _decode(self, line: bytes) -> str:
        return line.decode("utf-8", "replace").rstrip("\r")


class _LimitedLines:
    """At most so many lines per minute; how many are left out is said with the next ones."""

    def __init__(self) -> None:
        self._admitted = self._omitted = self._minute = 0

    def admit(self, lines: list[str], now: float) -> list[str]:
        """Return the lines that the limit admits."""
        if int(now // 60) != self._minute:
            self._minute, self._admitted = int(now // 60), 0
        admitted = lines[: max(0, LOGGED_LINES_PER_MINUTE - self._admitted)]
        self._admitted += len(admitted)
        said_before = self._omitted
        self._omitted += len(lines) - len(admitted)
        if admitted and said_before:
            admitted.append(f"({said_before} lines of this output are left out)")
            self._omitted -= said_before
        return admitted
