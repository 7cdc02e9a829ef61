"""Checkpoints of a SQLite database, beside the writer's own work.

What is committed stands in the write-ahead log first, and moves into the database file from time to time. SQLite itself
would do that within a COMMIT: for half a second no scanner's report would be answered. A thread does it here, in small
portions; it needs no lock that the writer waits for. The log begins anew when all of it has moved, which the thread
cannot achieve while commits follow one another without a pause: SQLite then does the rest of it, every 256 MB.
"""

from __future__ import annotations

import sqlite3
import threading
from contextlib import suppress
from pathlib import Path

from pylantir.store.schema.engine import sqlite_path, sqlite_uri
from workers.child.threads import start_thread

_EVERY_COMMITS = 4


class Checkpoints:
    """The thread that makes them; it begins with the first commits and does not keep a process alive.

    Args:
        db_url: The database; nothing happens for another one than SQLite.
    """

    def __init__(self, db_url: str) -> None:
        self._path = sqlite_path(db_url)
        self._commits = 0
        self._wanted = threading.Event()
        self._ending = False
        self._thread: threading.Thread | None = None

    def note_commit(self) -> None:
        """Tell that something was committed."""
        self._commits += 1
        if self._path is None or self._commits % _EVERY_COMMITS:
            return
        if self._thread is None:
            self._thread = start_thread(self._run, self._path, name="checkpoints")
        self._wanted.set()

    def close(self) -> None:
        """End the thread, when it has finished what it is doing."""
        if self._thread:
            self._ending = True
            self._wanted.set()
            self._thread.join()

    def _run(self, path: Path) -> None:
        connection: sqlite3.Connection | None = None
        while self._wanted.wait():
            self._wanted.clear()
            if self._ending:
                break
            # Whatever is wrong with the file, the writer's next COMMIT says so.
            with suppress(sqlite3.Error):
                # One connection for good: were the log removed, a new one would make another.
                connection = connection or sqlite3.connect(sqlite_uri(path, "rw"), uri=True)
                # The log is opened by the first reading only.
                connection.execute("PRAGMA user_version").fetchone()
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if connection:
            connection.close()
