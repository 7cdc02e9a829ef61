"""`pylantir copy-db` moves a worklist between SQLite and PostgreSQL, whole or not at all."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, insert, make_url, select, text
from worklist_store import Feed, record

from pylantir.cli.main import main
from pylantir.ipc.control import SOCKET_NAME
from pylantir.ipc.sockets import listen_at
from pylantir.store.change.copying import ROWS_AT_ONCE, copy_database
from pylantir.store.schema.engine import open_for_reading, open_for_writing
from pylantir.store.schema.tables import metadata, mpps_instances, worklist_items
from pylantir.store.schema.upgrade import prepare_database

Copy = Callable[[str, str], tuple[int, str, str]]


@pytest.fixture
def copy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Copy:
    def run(source: str, target: str) -> tuple[int, str, str]:
        path = tmp_path / "copy.json"
        sources = [{"name": "a", "type": "csv", "config": {"file_path": "a.csv"}, "field_mapping": {"a": "patient_id"}}]
        path.write_text(json.dumps({"db_url": source, "runtime_dir": "run", "data_sources": sources}))
        status = main(["copy-db", "--config", str(path), "--to", target])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


def contents(url: str) -> dict[str, list[tuple[Any, ...]]]:
    engine = open_for_writing(url)
    with engine.connect() as connection:
        found = {
            table.name: sorted(map(tuple, connection.execute(select(table)).all()), key=repr)
            for table in metadata.sorted_tables
        }
    engine.dispose()
    return found


def fill(engine: Engine) -> None:
    prepare_database(engine)
    Feed(engine, "ris").sync(*(record(f"r{n}", f"Pé{n}%s", patient_name=f"Ärger^{n}") for n in range(30)))
    report = {
        "sop_instance_uid": "1.2.3",
        "status": "COMPLETED",
        "scanner": "MR1",
        "item_ids": "[3]",
        "attributes": "{}",
    }
    with engine.begin() as connection:
        connection.execute(insert(mpps_instances), {**report, "created_at": "x", "updated_at": "x"})


def test_a_worklist_goes_to_postgresql_and_back_unchanged(tmp_path: Path, postgresql_url: str, copy: Copy) -> None:
    first, back = f"sqlite:///{tmp_path}/one.db", f"sqlite:///{tmp_path}/new/back.db"
    engine = open_for_writing(first)
    fill(engine)
    engine.dispose()
    # Files of older versions hold numbers where text belongs.
    with sqlite3.connect(tmp_path / "one.db") as file:
        file.execute("CREATE TABLE others (a)")
    server = make_url(postgresql_url).set(database=f"{make_url(postgresql_url).database}_absent")
    target = server.render_as_string(hide_password=False)
    try:
        status, out, err = copy(first, target)
        assert (status, "Traceback" in err) == (0, False), err
        assert "worklist_items: 30 rows, checksum" in out
        assert contents(target) == contents(first)
        engine = open_for_writing(target)
        prepare_database(engine)
        with engine.begin() as connection:
            connection.execute(insert(worklist_items), {"patient_id": "next"})
            assert connection.scalar(select(worklist_items.c.id).where(worklist_items.c.patient_id == "next")) == 31
        engine.dispose()
        assert copy(target, back)[0] == 0
        assert contents(back) == contents(target)
        before = contents(back)
        status, out, err = copy(target, back)
        assert (status, out) == (1, "")
        assert "not empty" in err
        assert contents(back) == before
    finally:
        engine = create_engine(postgresql_url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f'DROP DATABASE IF EXISTS "{server.database}" WITH (FORCE)'))
        engine.dispose()


def test_a_copy_that_fails_leaves_nothing_and_no_password(tmp_path: Path, postgresql_url: str, copy: Copy) -> None:
    source = f"sqlite:///{tmp_path}/one.db"
    engine = open_for_writing(source)
    fill(engine)
    with engine.begin() as connection:
        connection.execute(insert(worklist_items), {"patient_id": "what PostgreSQL cannot hold: \0"})
    engine.dispose()
    status, out, err = copy(source, postgresql_url)
    assert (status, out, "Traceback" in err) == (1, "", False)
    assert "nothing is copied" in err
    engine = open_for_writing(postgresql_url)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM pg_class WHERE relname LIKE 'worklist%'")) == 0
    engine.dispose()
    unreachable = "postgresql://u:pass%40word@127.0.0.1:1/x"
    for target, expected in ((unreachable, 1), ("postgresql://u:pass@word@h/x", 2), ("mysql://u:password@h/x", 2)):
        status, out, err = copy(source, target)
        assert (status, out, "Traceback" in err, "word" in err.replace("password, write", "")) == (
            expected,
            "",
            False,
            False,
        )
    status, out, err = copy(f"sqlite:///{tmp_path}/none.db", f"sqlite:///{tmp_path}/made.db")
    assert (status, (tmp_path / "made.db").exists()) == (1, False)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("scanner_touched = 'yes'", "worklist_items.scanner_touched: the row whose id is 2 has no whole number"),
        ("scanner_touched = 0.5", "worklist_items.scanner_touched: the row whose id is 2 has no whole number"),
        ("patient_id = x'05000000'", "worklist_items.patient_id: the row whose id is 2 has no text"),
        ("patient_name = 'Secret' || char(0)", "worklist_items: the row that begins with 2 holds the character NUL"),
        ("patient_name = CAST(x'536563726574ff' AS TEXT)", "Could not decode to UTF-8 column 'patient_name'"),
    ],
)
def test_a_value_that_cannot_be_copied_as_it_is_is_named_and_not_shown(
    tmp_path: Path, postgresql_url: str, copy: Copy, change: str, said: str
) -> None:
    source = f"sqlite:///{tmp_path}/one.db"
    engine = open_for_writing(source)
    prepare_database(engine)
    with engine.begin() as connection:
        connection.execute(insert(worklist_items), [{"patient_id": "P1"}, {"patient_id": "P2"}])
    engine.dispose()
    with sqlite3.connect(tmp_path / "one.db") as file:
        file.execute(f"UPDATE worklist_items SET {change} WHERE id = 2")
    status, out, err = copy(source, postgresql_url)
    assert (status, out, "Traceback" in err, "Secret" in err) == (1, "", False, False)
    assert said in err


@pytest.mark.parametrize("is_server", [False, True])
def test_rows_are_copied_in_portions(tmp_path: Path, postgresql_url: str, is_server: bool) -> None:
    url = postgresql_url if is_server else f"sqlite:///{tmp_path}/one.db"
    writer, target = open_for_writing(url), open_for_writing(f"sqlite:///{tmp_path}/two.db")
    prepare_database(writer)
    count = ROWS_AT_ONCE + 1
    with writer.begin() as connection:
        connection.execute(insert(worklist_items), [{"patient_id": f"P{n}"} for n in range(count)])
    told: list[int] = []
    source = open_for_reading(url)
    with source.connect() as connection:
        copy_database(
            connection, target, lambda table, done, _: told.append(done) if table == "worklist_items" else None
        )
    assert told == [0, ROWS_AT_ONCE, count]
    for engine in (writer, source, target):
        engine.dispose()


def test_a_copy_made_while_pylantir_runs_says_what_it_will_lack(tmp_path: Path, copy: Copy) -> None:
    prepare_database(engine := open_for_writing(f"sqlite:///{tmp_path}/one.db"))
    engine.dispose()
    (tmp_path / "run").mkdir()
    with listen_at(tmp_path / "run" / SOCKET_NAME):
        status, _, said = copy(f"sqlite:///{tmp_path}/one.db", f"sqlite:///{tmp_path}/two.db")
    assert status == 0
    assert "what it stores from now on, scanners' reports too, is not in the copy" in said
    status, _, said = copy(f"sqlite:///{tmp_path}/one.db", f"sqlite:///{tmp_path}/three.db")
    assert status == 0
    assert "from now on" not in said
