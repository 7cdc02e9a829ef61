"""A file that other programs write: whether it is complete, and whether it changed.

Lives in source workers, under the CSV and the JSON plugin. In: a path; out: an open file that nobody was writing
to, or `SourceUnavailable` with what to do. Looks at size and modification time only: change notifications do not
work on network shares.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator, Mapping

from pylantir.errors import SourceUnavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

SETTLED_AFTER_S = 2.0
LOOK_AGAIN_AFTER_S = 0.3
LONGEST_WAIT_S = 5.0

Signature = tuple[int, int, int, int]


class SourceFile:
    """One file of one source; remembers what was read last."""

    def __init__(self, path: str, *, watched: bool) -> None:
        """Take note of a file without touching it; a relative path starts at the working directory."""
        self.path = os.path.abspath(os.path.expanduser(path))
        self._watched = watched
        self._last_read: Signature | None = None

    def has_changed(self) -> bool:
        """Say whether the file is another one than was last read; always False if it is not to be watched."""
        return self._watched and self._look() not in (None, self._last_read)

    @contextlib.contextmanager
    def open_settled(self) -> Iterator[BinaryIO]:
        """Open the file once it is at rest, and make sure in the end that it stayed so.

        Raises:
            SourceUnavailable: The file is absent, empty, locked, unreadable, in another encoding than the body of the
                `with` reads, or was still being written.
        """
        try:
            with open(self._wait_until_settled(), "rb") as file:
                self._lock(file)
                self._last_read = before = _signature(os.fstat(file.fileno()))
                if before[1] == 0:
                    raise self.unavailable("has 0 bytes; a file with nothing to schedule needs its header or []")
                yield file
                if _signature(os.fstat(file.fileno())) != before:
                    raise self.unavailable(
                        "changed while it was being read; let the exporting program write another file and rename it"
                    )
        except UnicodeDecodeError as error:
            # The error holds the file's bytes: it must not be chained into a log.
            raise self.unavailable(f"byte {error.start} of a block is not {error.encoding}") from None
        except FileNotFoundError:
            self._last_read = None
            raise self.unavailable("there is no such file; check file_path, or wait for the export") from None
        except OSError as error:
            raise self.unavailable(f"cannot be read: {error.strerror or error}") from error

    def unavailable(self, reason: str) -> SourceUnavailable:
        """Make the exception that says why this file cannot be used now."""
        return SourceUnavailable(f"{self.path}: {reason}")

    def _look(self) -> Signature | None:
        try:
            return _signature(os.stat(self.path))
        except OSError:
            return None

    def _wait_until_settled(self) -> str:
        """Wait while the file is being written.

        Returns:
            Its path, to be opened.
        """
        deadline = time.monotonic() + LONGEST_WAIT_S
        found = os.stat(self.path)
        if not stat.S_ISREG(found.st_mode):
            raise self.unavailable("is not a regular file")
        while time.time() - found.st_mtime < SETTLED_AFTER_S:
            time.sleep(LOOK_AGAIN_AFTER_S)
            before, found = found, os.stat(self.path)
            if _signature(found) == _signature(before):
                break
            if time.monotonic() > deadline:
                raise self.unavailable("is still being written; it is tried again later")
        return self.path

    def _lock(self, file: BinaryIO) -> None:
        """Keep to the locks of programs that use them."""
        for lock in (fcntl.flock, fcntl.lockf):
            try:
                lock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in {errno.EAGAIN, errno.EACCES}:
                    raise self.unavailable("is locked by another program; it is tried again later") from None
                # Some network shares know no locks.


def skip_byte_order_mark(file: BinaryIO) -> str:
    """Step over a byte order mark and say which encoding it announces; UTF-8 without one."""
    start = file.read(3)
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        file.seek(0)
        return "utf-16"
    # Not "utf-8-sig": Python decodes that several times slower than "utf-8".
    file.seek(len(codecs.BOM_UTF8) if start == codecs.BOM_UTF8 else 0)
    return "utf-8"


def check_options(config: Mapping[str, object], texts: tuple[str, ...], switches: tuple[str, ...]) -> str:
    """Check the form of a file source's `config`.

    Args:
        config: The source's `config`; keys that begin with `_` are comments.
        texts: Keys that hold text; `file_path` among them is required.
        switches: Keys that hold true or false.

    Returns:
        What is wrong, or "".
    """
    problems = []
    if not config.get("file_path"):
        problems.append("file_path: expected the path of a file, found none")
    for key, value in config.items():
        if key in texts:
            if not isinstance(value, str) or not value:
                problems.append(f"{key}: expected text, got {value!r}")
        elif key in switches:
            if not isinstance(value, bool):
                problems.append(f"{key}: expected true or false, got {value!r}")
        elif not key.startswith("_"):
            problems.append(f'"{key}": unknown{near_name(key, (*texts, *switches))}')
    return "; ".join(problems)


def near_name(name: str, known: tuple[str, ...]) -> str:
    """Suggest what a wrong name may have meant, as the end of a sentence."""
    import difflib

    lowered = {candidate.lower(): candidate for candidate in known}
    near = difflib.get_close_matches(name.lower(), lowered, n=1)
    if near:
        return f' (did you mean "{lowered[near[0]]}"?)'
    return f" (known: {', '.join(known)})"


def _signature(found: os.stat_result) -> Signature:
    return found.st_mtime_ns, found.st_size, found.st_ino, found.st_dev
