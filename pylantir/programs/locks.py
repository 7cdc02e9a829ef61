"""Lock files: only a living process holds one, and an orderly end removes it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from pylantir.errors import AlreadyRunning


class FileLock:
    """An exclusive lock on a file; the kernel releases it when the process dies, however it dies."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None

    def acquire(self, purpose: str) -> None:
        """Take the lock and note our pid in the file.

        Raises:
            AlreadyRunning: Another process holds it; the message tells which.
        """
        while True:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip() or "?"
                os.close(fd)
                msg = f"{purpose} (process {holder} holds {self.path})"
                raise AlreadyRunning(msg) from None
            # The previous holder may have removed the file between our open and our lock.
            if self._is_still_there(fd):
                break
            os.close(fd)
        os.truncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._fd = fd

    def renew(self, purpose: str) -> None:
        """Take the lock again in a new file, because the old file was removed; the old lock is held until then.

        Raises:
            AlreadyRunning: Another process was faster.
        """
        old = self._fd
        self.acquire(purpose)
        if old is not None:
            os.close(old)

    def release(self) -> None:
        """Remove the file, if it is still ours, and release the lock."""
        if self._fd is not None:
            if self._is_still_there(self._fd):
                self.path.unlink(missing_ok=True)
            os.close(self._fd)
            self._fd = None

    @property
    def is_named(self) -> bool:
        """Whether the lock is held, and its file still exists under its name."""
        return self._fd is not None and self._is_still_there(self._fd)

    def _is_still_there(self, fd: int) -> bool:
        try:
            return os.path.samestat(os.fstat(fd), self.path.stat())
        except OSError:
            return False
