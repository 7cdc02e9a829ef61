"""Opens a file that other programs write, once it is complete, and notices changes to it.

Lives in source workers, under the CSV and the JSON plugin. In: a path; out: an open file that nobody was writing
to, or `SourceUnavailable` with what to do. Looks at size and modification time only: change notifications do not
work on network shares.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
import zlib
from collections.abc import Iterator

from pylantir.data_sources.formats.file_kind import GZIP, HEAD_BYTES, strange_kind
from pylantir.errors import SourceUnavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

SETTLED_AFTER_S = 2.0
UNFINISHED_AFTER_S = 10.0
"""How long a file that ends within a line has to be quiet, if it did not end so before: its writer may have paused."""
LOOK_AGAIN_AFTER_S = 0.3
LONGEST_WAIT_S = 5.0
_TAIL_BYTES = 4
_WHOLE_ENDS = (b"\n", b"\r", b"]", b"}", b"\x1a")
"""The last bytes of a line, a JSON document, or a text with an end mark; zeros behind them belong to UTF-16."""

Signature = tuple[int, int, int, int]


class SourceFile:
    """One file of one source; remembers what was tried last."""

    def __init__(self, path: str, *, watched: bool) -> None:
        """Remember a file's path without opening it; a relative path starts at the working directory."""
        self.path = os.path.abspath(os.path.expanduser(path))
        self._watched = watched
        self._last_tried: Signature | None = None
        self._ended_whole = False

    def has_changed(self) -> bool:
        """Say whether the file has changed since it was last tried; always False if it is not to be watched.

        A file that could not be read counts as tried: only a change can make another attempt succeed.
        """
        return self._watched and self._look() not in (None, self._last_tried)

    @contextlib.contextmanager
    def open_settled(self) -> Iterator[BinaryIO]:
        """Open the file once nobody writes to it, and check afterwards that it did not change meanwhile.

        Gives its contents unpacked, if it is a gzip file.

        Raises:
            SourceUnavailable: The file is absent, empty, locked, unreadable, no text at all, or was still being
                written.
        """
        try:
            with open(self._wait_until_settled(), "rb") as file:
                self._lock(file)
                self._last_tried = before = _signature(os.fstat(file.fileno()))
                if before[1] == 0:
                    raise self.unavailable("has 0 bytes; a file with nothing to schedule needs its header or []")
                yield self._unpacked(file)
                if _signature(os.fstat(file.fileno())) != before:
                    raise self.unavailable(
                        "changed while it was being read; let the exporting program write another file and rename it"
                    )
                self._ended_whole = self._ends_whole()
        except FileNotFoundError:
            self._last_tried = None
            raise self.unavailable("there is no such file; check file_path, or wait for the export") from None
        except EOFError:
            raise self.unavailable("the gzip file is cut short; let the export finish, or write it anew") from None
        except zlib.error:
            raise self.unavailable("the gzip file is damaged; write it anew") from None
        except PermissionError as error:
            user = f"the user that Pylantir runs as (number {os.geteuid()})"
            raise self.unavailable(f"cannot be read: {error.strerror}; give {user} the right to read it") from None
        except OSError as error:
            raise self.unavailable(f"cannot be read: {error.strerror or error}") from None

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
        # Noted before the file is opened: failing to open a locked or unreadable file must count as a try.
        self._last_tried = _signature(found)
        if not stat.S_ISREG(found.st_mode):
            kind = "a folder" if stat.S_ISDIR(found.st_mode) else "no regular file"
            raise self.unavailable(f"is {kind}; file_path has to name the file itself")
        quiet_since = time.monotonic()
        while time.time() - found.st_mtime < SETTLED_AFTER_S:
            time.sleep(LOOK_AGAIN_AFTER_S)
            before, found = found, os.stat(self.path)
            self._last_tried = _signature(found)
            now = time.monotonic()
            if _signature(found) != _signature(before):
                quiet_since = now
            elif self._ends_whole() or now - quiet_since >= SETTLED_AFTER_S:
                break
            if now > deadline:
                raise self.unavailable("is still being written; it is tried again later")
        if self._ended_whole and time.time() - found.st_mtime < UNFINISHED_AFTER_S and not self._ends_whole():
            raise self.unavailable("ends within a line, unlike before, so it may still be written; it is tried again")
        return self.path

    def _ends_whole(self) -> bool:
        """Whether the file ends as a finished one does: programs write in blocks, which end anywhere, in an ID too."""
        try:
            with open(self.path, "rb") as file:
                if file.read(len(GZIP)) == GZIP:
                    return True  # unpacking it will tell
                file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
                tail = file.read(_TAIL_BYTES).rstrip(b"\0")
        except OSError:
            return True  # opening it will tell
        return not tail or tail.endswith(_WHOLE_ENDS)

    def _unpacked(self, file: BinaryIO) -> BinaryIO:
        """Return a stream of the file's text; refuse a file that cannot hold text."""
        stream, head = file, file.read(HEAD_BYTES)
        file.seek(0)
        if head.startswith(GZIP):
            import gzip

            stream = gzip.GzipFile(fileobj=file)  # type: ignore[assignment]
            head = stream.read(HEAD_BYTES)
            stream.seek(0)
        if strange := strange_kind(head):
            raise self.unavailable(strange)
        return stream

    def _lock(self, file: BinaryIO) -> None:
        """Respect the locks of programs that use them."""
        for lock in (fcntl.flock, fcntl.lockf):
            try:
                lock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in {errno.EAGAIN, errno.EACCES}:
                    raise self.unavailable("is locked by another program; it is tried again later") from None
                # Some network shares know no locks.


def _signature(found: os.stat_result) -> Signature:
    return found.st_mtime_ns, found.st_size, found.st_ino, found.st_dev
