"""Opens the log file, and opens it again when somebody has moved or removed it.

Lives in the supervisor, which decides when to do so, and in each child, which obeys. Every process has its own
descriptor: the new file gets the descriptor's number, so the rest of the process is not affected.
"""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

logger = logging.getLogger(__name__)


def log_of(descriptor: int) -> str | None:
    """Say which file a descriptor writes to; None if it is no file (a terminal, a pipe, /dev/null)."""
    try:
        name = os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115 - pathlib is not needed
        is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
    except OSError:
        return None
    return name if is_file and not name.endswith(" (deleted)") else None


class LogFile:
    """A log file behind one or more descriptors.

    Args:
        path: Where it is.
        descriptors: The descriptors that write to it.
    """

    def __init__(self, path: Path, *descriptors: int) -> None:
        self.path = path
        self._descriptors = descriptors

    @property
    def is_named(self) -> bool:
        """Whether the open file is still the one with this name."""
        try:
            return os.path.samestat(os.fstat(self._descriptors[0]), self.path.stat())
        except OSError:
            return False

    def open(self) -> bool:
        """Open the file, or open it again; return whether that worked. If not, the old file stays open."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            logger.warning("the log file %s cannot be opened: %s", self.path, error.strerror)
            return False
        for descriptor in self._descriptors:
            os.dup2(fd, descriptor)
        os.close(fd)
        return True
