"""Removes what SQLite's files still hold of deleted rows, and names the copies that only people can clean.

Lives in the writer. `secure_delete` overwrites what is deleted, but a file of an earlier version may hold old rows in
its free space, and the write-ahead log holds them until it is emptied. PostgreSQL frees the space by its own VACUUM.

Source: sqlite.org/pragma.html (secure_delete), sqlite.org/c3ref/wal_checkpoint_v2.html (TRUNCATE).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from pylantir.store.schema.sqlite_file import side_files, sqlite_file

TRIES = 4
"""So often the writer tries to empty the log: a reader's transaction may hold it for a moment."""


def clean_files(engine: Engine, holds_residue: Callable[[], bool]) -> Iterator[None]:
    """Empty the write-ahead log, and rewrite the database file if it still holds what was deleted.

    Args:
        engine: The database; nothing is done if it is not SQLite.
        holds_residue: Looks into the database file.

    Yields:
        Between two attempts.
    """
    if sqlite_file(engine) is None:
        return
    yield from _empty_log(engine)
    if holds_residue():
        _run_alone(engine, "VACUUM")
        yield from _empty_log(engine)


def _empty_log(engine: Engine) -> Iterator[None]:
    for _ in range(TRIES):
        if _run_alone(engine, "PRAGMA wal_checkpoint(TRUNCATE)") == 0:
            return
        yield


def _run_alone(engine: Engine, statement: str) -> object:
    """Run a statement that SQLite refuses within SQLAlchemy's transaction; return the first value that it gives."""
    with engine.connect() as connection:
        driver = connection.connection.driver_connection
        if driver is None:
            return None
        try:
            row = driver.execute(statement).fetchone()
        except sqlite3.Error as error:
            raise OperationalError(statement, None, error) from error
        return row[0] if row else None


def find_copies(path: Path) -> list[Path]:
    """List the copies of a database beside it: those that Pylantir makes before it changes an older file, and others.

    A file counts as a copy if its name begins like the database's and it is none of the files in use.
    """
    in_use = {path, *side_files(path), path.with_suffix(".log"), path.with_name(f"{path.name}.lock")}
    beside = sorted(path.parent.glob(f"{path.stem}*"))
    return [file for file in beside if file not in in_use and file.is_file()]
