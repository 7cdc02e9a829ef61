"""Writes the log to stderr without ever waiting for its reader. Lives in every process.

A reader may stall: a terminal after Ctrl-S, a pager, a log driver. Nothing here blocks. Lines that cannot be written at
once are kept, up to a bound, and a thread writes them when the reader is ready; further lines are dropped and counted.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import stat
import threading
import time
from collections import deque

KEPT_BYTES = 256 * 1024
"""How much is kept for a stalled reader."""
FLUSH_S = 0.5
"""How long the end of a process waits for the reader."""
_PIECE_BYTES = 4096
"""The most bytes that a pipe takes either completely or not at all (POSIX: PIPE_BUF)."""
_PAUSE_S = 0.02


class _Descriptor:
    """Writes to a descriptor of any kind without blocking, even if other processes have it open."""

    def __init__(self, fd: int) -> None:
        mode = os.fstat(fd).st_mode
        self._fd = fd
        self._socket = socket.socket(fileno=os.dup(fd)) if stat.S_ISSOCK(mode) else None
        self._asks_first = stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)
        if self._asks_first:
            try:
                # O_NONBLOCK on the descriptor itself would affect the shell and every other process that shares it.
                self._fd = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
                self._asks_first = False
            except OSError:
                # Another user's terminal or pipe, or no /proc.
                pass

    def write(self, data: bytes) -> int:
        """Write as many bytes as the reader takes at once; return their number.

        Raises:
            OSError: There is no reader any more, or the disk is full.
        """
        try:
            if self._socket:
                return self._socket.send(data, socket.MSG_DONTWAIT)
            if self._asks_first and not self.wait(0.0):
                return 0
            return os.write(self._fd, data[:_PIECE_BYTES] if self._asks_first else data)
        except (BlockingIOError, InterruptedError):
            return 0

    def wait(self, timeout_s: float) -> bool:
        """Wait until something can be written."""
        poll = select.poll()
        poll.register(self._socket or self._fd, select.POLLOUT)
        return bool(poll.poll(timeout_s * 1000))


class LogOutput(logging.Handler):
    """Writes events to a descriptor.

    Args:
        fd: The descriptor; it stays open.

    Attributes:
        dropped: Lines that could not be written.
    """

    def __init__(self, fd: int) -> None:
        super().__init__()
        self.dropped = 0
        self._told = 0
        self._descriptor = _Descriptor(fd)
        self._kept: deque[bytes] = deque()
        self._kept_bytes = 0
        self._access = threading.Lock()
        self._writes_kept = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write an event now, keep it for later, or drop it."""
        try:
            line = (self.format(record) + "\n").encode("utf-8", "backslashreplace")
            with self._access:
                self._take(line)
        # A log line never stops whoever writes it: no memory, a value that cannot be formatted.
        except Exception:  # noqa: BLE001
            self.handleError(record)

    def flush(self) -> None:
        """Wait a short time for a slow reader."""
        deadline = time.monotonic() + FLUSH_S
        while self._kept and time.monotonic() < deadline:
            time.sleep(_PAUSE_S)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Count an event that cannot be formatted; there is nobody to tell."""
        self.dropped += 1

    def _take(self, line: bytes) -> None:
        rest = line if self._kept else self._write(line)
        if rest and self._kept_bytes + len(rest) > KEPT_BYTES and len(rest) == len(line):
            self.dropped += 1
        elif rest:
            self._kept.append(rest)
            self._kept_bytes += len(rest)
        if self._kept and not self._writes_kept:
            self._writes_kept = True
            try:
                threading.Thread(target=self._run, name="log", daemon=True).start()
            except RuntimeError:
                # There is no thread to be had just now: the next line tries again.
                self._writes_kept = False

    def _run(self) -> None:
        try:
            self._write_kept()
        # Whatever ended the thread: the next line starts another one.
        except Exception:  # noqa: BLE001
            with self._access:
                self._writes_kept = False

    def _write(self, data: bytes) -> bytes:
        """Write as many bytes as the reader takes at once; return the rest."""
        try:
            while data and (written := self._descriptor.write(data)):
                data = data[written:]
        except OSError:
            self.dropped += 1
            return b""
        return data

    def _write_kept(self) -> None:
        """Write the kept lines as soon as the reader takes them, then say how many were dropped; runs in a thread."""
        while True:
            self._descriptor.wait(1.0)
            with self._access:
                while self._kept:
                    first = self._kept.popleft()
                    self._kept_bytes -= len(first)
                    rest = self._write(first)
                    if rest:
                        self._kept.appendleft(rest)
                        self._kept_bytes += len(rest)
                        break
                else:
                    rest = self._write(self._tell_dropped())
                    if not rest:
                        self._writes_kept = False
                        return
                    self._kept.append(rest)
                    self._kept_bytes += len(rest)
            time.sleep(_PAUSE_S)

    def _tell_dropped(self) -> bytes:
        count, self._told = self.dropped - self._told, self.dropped
        if not count:
            return b""
        message = "%d lines of the log were dropped: nobody read it"
        record = logging.LogRecord(__name__, logging.WARNING, __file__, 0, message, (count,), None)
        return (self.format(record) + "\n").encode("utf-8", "backslashreplace")


def dropped_lines() -> int:
    """How many lines of this process's log could not be written."""
    return sum(handler.dropped for handler in logging.getLogger().handlers if isinstance(handler, LogOutput))
