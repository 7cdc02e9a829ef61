"""Checkpoints beside the writer: what is committed moves into the database file, whatever becomes of that file."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from waiting import wait_until

from workers.writer.checkpoints import Checkpoints

ENOUGH_COMMITS = 4


@pytest.fixture
def writing(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A connection as the writer's, which makes no checkpoint by itself."""
    with closing(sqlite3.connect(tmp_path / "worklist.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA wal_autocheckpoint=0")
        connection.execute("CREATE TABLE items (id INTEGER)")
        yield connection


def rows_in_the_file_alone(folder: Path) -> int:
    """What a copy without the write-ahead log has."""
    shutil.copy(folder / "worklist.db", folder / "copy.db")
    with closing(sqlite3.connect(folder / "copy.db")) as connection:
        try:
            return int(connection.execute("SELECT count(*) FROM items").fetchone()[0])
        except sqlite3.DatabaseError:
            return 0


def test_what_is_committed_moves_into_the_file(tmp_path: Path, writing: sqlite3.Connection) -> None:
    checkpoints = Checkpoints(f"sqlite:///{tmp_path / 'worklist.db'}")
    for number in range(ENOUGH_COMMITS):
        assert rows_in_the_file_alone(tmp_path) == 0
        writing.execute("INSERT INTO items VALUES (?)", (number,))
        checkpoints.note_commit()
    wait_until(lambda: rows_in_the_file_alone(tmp_path) == ENOUGH_COMMITS, "a checkpoint")
    before = threading.active_count()
    checkpoints.close()
    assert threading.active_count() == before - 1


def test_a_file_that_is_gone_is_not_made_anew(tmp_path: Path) -> None:
    checkpoints = Checkpoints(f"sqlite:///{tmp_path / 'worklist.db'}")
    for _ in range(3 * ENOUGH_COMMITS):
        checkpoints.note_commit()
    checkpoints.close()
    assert list(tmp_path.iterdir()) == []


def test_another_database_makes_its_own() -> None:
    before = threading.active_count()
    checkpoints = Checkpoints("postgresql+psycopg://localhost/worklist")
    for _ in range(3 * ENOUGH_COMMITS):
        checkpoints.note_commit()
    assert threading.active_count() == before
    checkpoints.close()
