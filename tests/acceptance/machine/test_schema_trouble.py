"""A database file that cannot be brought to the present form: told with the table's name, copied once, never in a loop."""

from __future__ import annotations

import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from installation import Installation, csv_source, own_disk, wait_until


def make_old_file(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
        connection.commit()


def copies(installation: Installation) -> list[str]:
    return sorted(path.name for path in installation.database.parent.glob("worklist.db.*") if path.suffix != ".lock")


def start_and_see_it_refused(installation: Installation) -> None:
    installation.write_csv("a.csv", ["P1"])
    installation.configure(csv_source("a", "a.csv"))
    installation.start(until=None)
    wait_until(lambda: installation.process("writer").get("state") == "FATAL", lambda: installation.log()[-3000:])
    assert installation.process("writer")["last_exit"] == "status 78"
    assert installation.status()["health"] == "degraded"
    assert "cannot be brought to the form that Pylantir needs" in installation.log()


def test_a_foreign_table_of_our_name_is_fatal_with_its_name(installation: Installation) -> None:
    make_old_file(installation.database, "create table audit_log (id integer primary key, event text not null)")
    start_and_see_it_refused(installation)
    assert "table audit_log" in installation.log()
    assert copies(installation) == []
    assert installation.rows("select name from sqlite_master") == [("audit_log",)]


def test_a_schema_that_cannot_be_completed_is_copied_once(installation: Installation) -> None:
    make_old_file(installation.database, "create table sync_runs (id integer primary key)")
    make_old_file(installation.database, "create view worklist_items as select 1 as id")
    start_and_see_it_refused(installation)
    assert "table worklist_items" in installation.log()
    first = copies(installation)
    assert len(first) == 1
    assert first[0].endswith(".backup")
    pid = installation.process("writer")["pid"]
    assert pid is None
    installation.command("reload")
    wait_until(lambda: installation.log().count("cannot run with this configuration") == 2, "fatal again")
    installation.terminate()
    assert copies(installation) == first


@pytest.fixture
def small_disk(installation: Installation) -> Iterator[Path]:
    """A small disk of its own for the database."""
    with own_disk(installation, "6m") as folder:
        yield folder


def test_a_disk_too_small_for_the_copy_is_told_until_there_is_room(
    installation: Installation, small_disk: Path
) -> None:
    make_old_file(installation.database, "create table sync_runs (id integer primary key, data_source text)")
    make_old_file(installation.database, "create table ballast as select zeroblob(4000000) as bytes")
    installation.write_csv("a.csv", ["P1"])
    installation.configure(csv_source("a", "a.csv"))
    installation.start(until=None)
    wait_until(
        lambda: "are needed for a copy" in str(installation.process("writer").get("last_error")),
        lambda: f"{installation.process('writer')} {installation.log()[-2000:]}",
    )
    assert copies(installation) == []
    assert installation.log().count("are needed for a copy") <= 2
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    installation.wait_for_health("healthy")
    assert installation.patients() == ["P1"]
    assert len(copies(installation)) == 1
    assert installation.process("writer")["restarts"] == 0
