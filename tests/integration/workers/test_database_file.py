"""The writer's file: nobody else writes to it, and nobody takes it or its side files away unnoticed."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from running_writer import RunningWriter, batch, end, record
from waiting import wait_until

from pylantir.config.sections.database import database_url
from pylantir.errors import AlreadyRunning, StoreError
from pylantir.store.schema.engine import open_for_reading, open_for_writing
from pylantir.store.schema.sqlite_file import side_files, sqlite_file
from pylantir.store.schema.upgrade import prepare_database
from workers.writer.database_file import DatabaseFile
from workers.writer.integrity import IntegrityCheck


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[RunningWriter]:
    running = RunningWriter(tmp_path)
    running.start()
    yield running
    running.close()


def open_file(path: Path) -> DatabaseFile:
    return DatabaseFile(open_for_writing(f"sqlite:///{path}"))


@pytest.mark.parametrize("other", ["symbolic", "hard", "spelling", "same"])
def test_a_second_writer_of_the_same_file_is_refused_whatever_it_calls_it(tmp_path: Path, other: str) -> None:
    path, link = tmp_path / "a.db", tmp_path / "other.db"
    first = open_file(path)
    first.claim()
    if other == "symbolic":
        link.symlink_to(path)
    elif other == "hard":
        os.link(path, link)
    else:
        link = tmp_path / "." / "b" / ".." / "a.db" if other == "spelling" else path
        (tmp_path / "b").mkdir()
    second = open_file(link)
    with pytest.raises(AlreadyRunning):
        second.claim()
    second.release()
    first.release()
    second.claim()
    second.release()


@pytest.mark.parametrize("side", [0, 1])
def test_what_stands_in_a_log_that_was_removed_is_kept(tmp_path: Path, side: int) -> None:
    path = tmp_path / "a.db"
    engine = open_for_writing(f"sqlite:///{path}")
    file = DatabaseFile(engine)
    file.claim()
    prepare_database(engine)
    file.note_opened()
    file.check()
    with engine.begin() as connection:
        connection.exec_driver_sql("insert into store_facts values ('a', 'b')")
    file.check()
    side_files(path)[side].unlink()
    with pytest.raises(StoreError, match="removed or replaced"):
        file.check()
    engine.dispose()
    file.release()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("select value from store_facts where name = 'a'").fetchall() == [("b",)]


def test_a_log_that_another_program_leaves_while_nobody_is_connected_here_is_nothing_removed(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    engine = open_for_writing(f"sqlite:///{path}")
    file = DatabaseFile(engine)
    file.claim()
    prepare_database(engine)
    file.note_opened()
    file.check()
    with closing(sqlite3.connect(path)) as other:
        other.execute("insert into store_facts values ('a', 'b')")
        # As after a failure: the next attempt connects anew.
        file.forget_sides()
        engine.dispose()
        other.commit()
        file.check()
    assert not side_files(path)[0].exists()
    file.check()
    with engine.begin() as connection:
        connection.exec_driver_sql("insert into store_facts values ('c', 'd')")
    file.check()
    side_files(path)[0].unlink()
    with pytest.raises(StoreError, match="removed or replaced"):
        file.check()
    engine.dispose()
    file.release()


@pytest.mark.parametrize("successor", ["none", "older copy", "unlinked"])
def test_a_file_that_is_moved_away_takes_its_log_along(tmp_path: Path, successor: str) -> None:
    path, moved, copy = tmp_path / "a.db", tmp_path / "moved.db", tmp_path / "copy.db"
    engine = open_for_writing(f"sqlite:///{path}")
    file = DatabaseFile(engine)
    file.claim()
    prepare_database(engine)
    file.note_opened()
    file.check()
    with engine.begin() as connection:
        connection.exec_driver_sql("insert into store_facts values ('a', 'old')")
    reader = open_for_reading(f"sqlite:///{path}")
    with reader.connect() as connection, closing(sqlite3.connect(copy)) as backup:
        connection.connection.driver_connection.backup(backup)  # type: ignore[union-attr]
    with engine.begin() as connection:
        connection.exec_driver_sql("insert into store_facts values ('b', 'new')")
    file.check()
    path.rename(moved)
    if successor == "older copy":
        copy.rename(path)
    elif successor == "unlinked":
        moved.unlink()
    with pytest.raises(StoreError, match="removed or replaced"):
        file.check()
    engine.dispose()
    file.release()

    def told(database: Path) -> list[str]:
        with closing(sqlite3.connect(database)) as connection:
            found = connection.execute("select name from store_facts where name in ('a', 'b')").fetchall()
            return [name for (name,) in found]

    if successor != "unlinked":
        assert told(moved) == ["a", "b"]
    # A reader that has the old file still open does not disturb the new one.
    engine = open_for_writing(f"sqlite:///{path}")
    prepare_database(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("insert into store_facts values ('c', 'newest')")
    assert told(path) == (["a"] if successor == "older copy" else [])
    with reader.connect() as connection:
        found = connection.exec_driver_sql("select value from store_facts where name = 'c'").scalar_one()
    assert found == "newest"
    reader.dispose()
    engine.dispose()


@pytest.mark.parametrize("names", [("-wal",), ("-shm",), ("-wal", "-shm")])
def test_nothing_acknowledged_is_lost_with_the_side_files_and_readers_see_what_follows(
    writer: RunningWriter, names: tuple[str, ...]
) -> None:
    reader = open_for_reading(f"sqlite:///{writer.database}")

    def seen() -> int:
        with reader.connect() as connection:
            return int(connection.exec_driver_sql("select count(*) from worklist_items").scalar_one())

    producer = writer.connect("a")
    assert producer.ask(batch(1, *(record(f"P{number}") for number in range(50))))
    assert producer.ask(end(2))
    assert seen() == 50
    pid = writer.child.pid
    for name in names:
        writer.database.with_name(writer.database.name + name).unlink()
    producer.send(batch(1, record("P0"), record("P50"), cycle="c2"))

    def is_replaced() -> bool:
        writer.listen()
        return writer.child.pid not in {None, pid} and writer.is_ready()

    wait_until(is_replaced, "another writer has begun anew")
    assert seen() == 50
    producer = writer.connect("a")
    assert producer.ask(batch(1, *(record(f"P{number}") for number in range(60)), cycle="c2"))
    assert producer.ask(end(2, cycle="c2"))
    assert seen() == 60
    reader.dispose()


@pytest.mark.parametrize("name", ["what?.db", "a#b.db", "100%41.db", "a b&c=d.db", "ü%3F.db"])
def test_any_name_is_the_name_of_the_file(tmp_path: Path, name: str) -> None:
    url, findings = database_url({"db_path": name}, tmp_path, {})
    assert not findings
    engine = open_for_writing(url)
    assert sqlite_file(engine) == tmp_path / name
    prepare_database(engine)
    reader = open_for_reading(url)
    with reader.connect() as connection:
        assert connection.exec_driver_sql("select count(*) from worklist_items").scalar_one() == 0
    reader.dispose()
    engine.dispose()
    assert [one.name for one in tmp_path.iterdir()] == [name]


def test_a_broken_page_is_told_once(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    engine = open_for_writing(f"sqlite:///{path}")
    prepare_database(engine)
    with engine.begin() as connection:
        for number in range(200):
            connection.exec_driver_sql("insert into store_facts values (?, ?)", (f"{number:04}", "x" * 2000))
    with closing(sqlite3.connect(path)) as other:
        other.execute("pragma wal_checkpoint(truncate)")
    told: list[str] = []
    check = IntegrityCheck(path, told.append, pause_s=0.02)
    size = path.stat().st_size // 8192
    with path.open("r+b") as file:
        file.seek((size - 20) * 8192)
        file.write(b"\xff" * 8192)
    wait_until(lambda: told, "it is told")
    check.close()
    assert len(told) == len(set(told))
    engine.dispose()
