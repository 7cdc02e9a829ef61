"""In a file of version 0.4 (source, record ID) is unique: items let go of it in time."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Engine
from worklist_store import Feed, check_audit, items, quarantine, record, report_from_scanner

from pylantir.entry import COMPLETED, SCHEDULED, WORKLIST_FIELDS
from pylantir.store.decide.claims import STATUS
from pylantir.store.schema.engine import open_for_writing
from pylantir.store.schema.upgrade import prepare_database


@pytest.fixture
def old_store(tmp_path: Path) -> Iterator[Engine]:
    path = tmp_path / "worklist.db"
    columns = ", ".join(f"{name} VARCHAR(100)" for name in list(WORKLIST_FIELDS)[:19])
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            f"CREATE TABLE worklist_items (id INTEGER PRIMARY KEY, {columns}, data_source VARCHAR(50),"
            " source_record_id VARCHAR(100), UNIQUE (data_source, source_record_id))"
        )
    engine = open_for_writing(f"sqlite:///{path}")
    prepare_database(engine)
    yield engine
    engine.dispose()


def test_a_started_item_gives_its_record_id_to_the_patient_who_has_it_now(old_store: Engine) -> None:
    feed = Feed(old_store, "ris")
    feed.sync(record("1"), record("2", patient="P2", performed_procedure_step_status=COMPLETED))
    report_from_scanner(old_store, items(old_store)[0]["id"], COMPLETED)
    feed.sync(record("1", patient="Q1"), record("2", patient="Q2"))
    assert quarantine(old_store) == {}
    assert [(one["patient_id"], one[STATUS], one["source_record_id"]) for one in items(old_store)] == [
        ("P1", COMPLETED, None), ("P2", COMPLETED, None), ("Q1", SCHEDULED, "1"), ("Q2", SCHEDULED, "2"),
    ]  # fmt: skip
    check_audit(old_store)


def test_two_records_may_swap_their_patients(old_store: Engine) -> None:
    feed = Feed(old_store, "ris")
    feed.sync(record("1"), record("2", patient="P2"))
    for _ in range(2):
        feed.sync(record("1", patient="P2"), record("2"))
        feed.sync(record("1"), record("2", patient="P2"))
    assert quarantine(old_store) == {}
    assert len(items(old_store, **{STATUS: SCHEDULED})) == 2
    check_audit(old_store)


def test_two_sources_may_swap_an_item_under_one_record_id(old_store: Engine) -> None:
    ris, csv = Feed(old_store, "ris"), Feed(old_store, "csv")
    csv.sync(record("1"), record("x", patient="X"))
    ris.sync(record("1", scheduled_start_date="20300801"), record("y", patient="Y"))
    ris.sync(record("1"), record("y", patient="Y"))
    csv.sync(record("1", scheduled_start_date="20300801"), record("x", patient="X"))
    assert quarantine(old_store) == {}
    assert len(items(old_store, patient_id="P1", **{STATUS: SCHEDULED})) == 2
    check_audit(old_store)
