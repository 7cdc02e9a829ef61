"""Guards the writer's SQLite file: one writer per file, and the writer notices when somebody removes or replaces it.

Lives in the writer. It locks the file, not the name, because another configuration may reach the file through a link.
It checks the names before every frame: commits must go to the file and the write-ahead log that other processes see.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import QueuePool

from pylantir.errors import AlreadyRunning, StoreError
from pylantir.programs.locks import FileLock
from pylantir.store.schema.sqlite_file import identity_of, side_files, sqlite_file

RESCUE_S = 6.0
"""How long readers may delay the rescue of a removed log: each takes milliseconds, unless its process stands still."""
_PAUSE_S = 0.05
_PIECE_BYTES = 4 << 20
_LONGEST_VALUE = 4096
"""Bytes that two pieces have in common, so that no value is cut."""

Identity = tuple[int, int]

logger = logging.getLogger(__name__)


class DatabaseFile:
    """The file of a SQLite database; with another database it does nothing.

    Args:
        engine: The database, opened for writing.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._path = sqlite_file(engine)
        self._name_lock: FileLock | None = None
        self._file_lock: int | None = None
        self._file: Identity | None = None
        self._sides: tuple[Identity | None, ...] | None = None

    def claim(self) -> None:
        """Make the folder and the file, and make sure that no other writer uses the file, under whatever name.

        Raises:
            AlreadyRunning: Another writer uses it.
            OSError: The folder or the file cannot be used at present.
        """
        if self._path is None:
            return
        if self._name_lock is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self._path.with_name(self._path.name + ".lock"))
            lock.acquire("another writer uses this database")
            self._name_lock = lock
        # On other systems this lock would conflict with SQLite's own locks and shut readers out.
        if sys.platform == "linux":
            self._lock_file(self._path)

    def note_opened(self) -> None:
        """Remember which files are open."""
        if self._path:
            self._file = identity_of(self._path)
            self._sides = None

    def check(self) -> None:
        """Check that commits go into the files that other processes see.

        Raises:
            StoreError: A file was removed or replaced; the next writer opens the present files. If the write-ahead log
                was removed, its contents have been moved into the database file before.
        """
        if self._path is None:
            return
        if identity_of(self._path) != self._file:
            self._leave()
            raise StoreError("the database file was removed or replaced; it is opened anew")
        sides = tuple(identity_of(side) for side in side_files(self._path))
        if self._sides is None:
            # SQLite makes them at the first transaction. While this writer has no connection, another program that
            # closes its own takes them away.
            self._sides = sides if all(sides) and self._has_connection() else None
        elif sides != self._sides:
            self._rescue()
            raise StoreError("the database's -wal or -shm file was removed or replaced; the database is opened anew")

    def forget_sides(self) -> None:
        """Forget the side files before the connections are closed: SQLite may make new ones at the next transaction."""
        self._sides = None

    def holds_any(self, values: Iterable[str]) -> bool:
        """Whether the file has one of these values somewhere, be it in its free space; True if it cannot be read.

        It is read through the descriptor that is open anyway: to close another one would end SQLite's locks.
        """
        wanted = [value.encode("utf-8", "surrogatepass") for value in values if value]
        if self._file_lock is None:
            return self._path is not None
        offset, kept = 0, b""
        while piece := os.pread(self._file_lock, _PIECE_BYTES, offset):
            offset += len(piece)
            text = kept + piece
            if any(value in text for value in wanted):
                return True
            kept = text[-_LONGEST_VALUE:]
        return False

    def release(self) -> None:
        """Release the file after the last connection has closed: closing a descriptor ends all SQLite locks on it."""
        if self._file_lock is not None:
            os.close(self._file_lock)
            self._file_lock = None
        if self._name_lock:
            self._name_lock.release()
            self._name_lock = None

    def _has_connection(self) -> bool:
        return isinstance(self._engine.pool, QueuePool) and self._engine.pool.checkedin() > 0

    def _lock_file(self, path: Path) -> None:
        if self._file_lock is not None:
            status = os.fstat(self._file_lock)
            if (status.st_dev, status.st_ino) == identity_of(path):
                return
            os.close(self._file_lock)
            self._file_lock = None
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            msg = f"another writer uses this database: the file {path} is locked, perhaps under another name"
            raise AlreadyRunning(msg) from None
        except OSError:
            # A file system without such locks: the lock file beside it must suffice.
            os.close(fd)
            return
        self._file_lock = fd

    def _leave(self) -> None:
        """Take the log along to the file that was moved: under its name, SQLite would apply it to the new file."""
        sides = side_files(self._path) if self._path else ()
        if self._sides is None or tuple(map(identity_of, sides)) != self._sides:
            return
        try:
            self._rescue()
        except StoreError as error:
            logger.warning("what scanners and sources delivered last cannot be kept with the old file: %s", error)
        # Readers that still have them open keep them.
        for side in sides:
            side.unlink(missing_ok=True)

    def _rescue(self) -> None:
        """Move the committed data from the open log into the database file."""
        deadline = time.monotonic() + RESCUE_S
        while True:
            try:
                with self._engine.connect() as connection:
                    driver = connection.connection.driver_connection
                    is_busy, _, _ = driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()  # type: ignore[union-attr]
            except SQLAlchemyError as error:
                raise StoreError("the database's -wal file was removed, and its contents cannot be kept") from error
            if not is_busy or time.monotonic() > deadline:
                return
            time.sleep(_PAUSE_S)
