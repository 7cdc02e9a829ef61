"""Makes checkpoints of a SQLite database while the writer works.

SQLite writes a commit to the write-ahead log first; a checkpoint moves it into the database file. By default SQLite
does this within a COMMIT, and the writer could not answer a scanner's report for half a second. Here a thread does it
in small portions, without a lock that the writer waits for. The log starts again when everything has been moved. While
commits follow one another without a pause, the thread cannot achieve that; SQLite then does the rest every 256 MB.
"""

from __future__ import annotations

import sqlite3
import threading
from contextlib import suppress
from pathlib import Path

from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from pylantir.store.schema.sqlite_file import sqlite_path, sqlite_uri
from workers.child.threads import start_thread

_EVERY_COMMITS = 4


class Checkpoints:
    """The thread that makes them; it begins with the first commits and does not keep a process alive.

    Args:
        db_url: The database; if it is not SQLite, nothing happens.
    """

    def __init__(self, db_url: str) -> None:
        self._path = sqlite_path(db_url)
        self._commits = 0
        self._wanted = threading.Event()
        self._ending = False
        self._thread: threading.Thread | None = None

    def note_commit(self) -> None:
        """Tell the thread about a commit."""
        self._commits += 1
        if self._path is None or self._commits % _EVERY_COMMITS:
            return
        if self._thread is None:
            self._thread = start_thread(self._run, self._path, name="checkpoints")
        self._wanted.set()

    def close(self) -> None:
        """End the thread when it has finished its present portion."""
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
            # If something is wrong with the file, the writer's next COMMIT reports it.
            with suppress(sqlite3.Error):
                # Keep one connection: if the log is removed, a new connection would make another log.
                connection = connection or sqlite3.connect(sqlite_uri(path, "rw"), uri=True)
                # The log is opened by the first reading only.
                connection.execute("PRAGMA user_version").fetchone()
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if connection:
            connection.close()


def empty_log(engine: Engine) -> None:
    """Move the write-ahead log into the database file, so that a copy of the file alone is complete."""
    if engine.dialect.name == "sqlite":
        with suppress(SQLAlchemyError), engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))
