"""Checks the database file regularly, so that damage is found while backups still have the data.

Lives in the writer, in a thread that only reads. Without this check, a broken page is found only when it is read, or at
the next start. The thread checks one table after another and uses at most one percent of the time.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from pylantir.store.schema.sqlite_file import identity_of, side_files, sqlite_uri
from workers.child.threads import start_thread

PAUSE_S = 10.0
"""The shortest pause between two turns."""
TURN_S = 0.1
"""After so much time for small tables, the other tables wait for the next turn."""
_SHARE = 100
_TABLES = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"
_CORRUPT = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


class IntegrityCheck:
    """The thread that checks.

    Args:
        path: The database file.
        tell: Called once for each damage found.
        pause_s: Between two turns.
    """

    def __init__(self, path: Path, tell: Callable[[str], None], pause_s: float = PAUSE_S) -> None:
        self._path = path
        self._tell = tell
        self._pause_s = pause_s
        self._told: set[str] = set()
        self._last_table = ""
        self._ending = threading.Event()
        self._thread = start_thread(self._run, name="integrity")

    def close(self) -> None:
        """End the thread."""
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        pause_s = self._pause_s
        while not self._ending.wait(pause_s):
            began = time.monotonic()
            try:
                self._look(began + TURN_S)
            except sqlite3.Error as error:
                # The file is locked or missing: the writer itself reports that.
                if getattr(error, "sqlite_errorcode", 0) & 0xFF in _CORRUPT:
                    self._note(str(error))
            pause_s = max(self._pause_s, _SHARE * (time.monotonic() - began))

    def _look(self, until: float) -> None:
        """Check the next tables with a new connection: an old one would read its own cache instead of the file."""
        if not all(map(identity_of, side_files(self._path))):
            # Somebody has removed a file: the writer will notice soon, and we must not make a new one.
            return
        with closing(sqlite3.connect(sqlite_uri(self._path, "ro"), uri=True)) as connection:
            connection.set_progress_handler(self._ending.is_set, 100_000)
            tables = [name for (name,) in connection.execute(_TABLES)]
            for table in [name for name in tables if name > self._last_table]:
                quoted = table.replace('"', '""')
                for (found,) in connection.execute(f'PRAGMA quick_check("{quoted}")'):
                    if found != "ok":
                        self._note(f"table {table}: {found}")
                        break
                self._last_table = table
                if time.monotonic() > until:
                    return
            self._last_table = ""

    def _note(self, found: str) -> None:
        what = found.splitlines()[0]
        if what not in self._told:
            self._told.add(what)
            self._tell(what)
