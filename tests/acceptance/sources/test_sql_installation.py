"""A database as a source, through the real processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from installation import Installation, wait_until

MAPPING = {"mrn": "patient_id", "day": "scheduled_start_date", "hour": "scheduled_start_time"}
UIDS = "select patient_id, study_instance_uid from worklist_items order by 1"


@pytest.fixture(params=["sqlite", "postgresql"])
def bookings(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[sa.Engine]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('clinic') / 'bookings.db'}"
    else:
        url = request.getfixturevalue("postgresql_url")
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    change(engine, "CREATE TABLE booking (mrn TEXT, day DATE, hour TIME, changed TIMESTAMP)")
    for number in range(3):
        book(engine, f"P{number}")
    yield engine
    engine.dispose()


def change(engine: sa.Engine, statement: str) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql(statement)


def book(engine: sa.Engine, patient: str) -> None:
    change(engine, f"INSERT INTO booking VALUES ('{patient}', '2030-01-30', '10:15:00', CURRENT_TIMESTAMP)")


def configure(installation: Installation, bookings: sa.Engine, query: str) -> None:
    source: dict[str, Any] = {"name": "clinic", "type": "sql", "sync_interval": 1, "field_mapping": MAPPING}
    source["config"] = {"url_env": "BOOKING_DB_URL", "query": query, "timezone": "UTC"}
    installation.configure({**source, "defaults": {"modality": "MR"}})
    installation.environment["BOOKING_DB_URL"] = bookings.url.render_as_string(hide_password=False)


def test_rows_become_the_worklist_and_deleted_ones_are_cancelled(
    installation: Installation, bookings: sa.Engine
) -> None:
    configure(installation, bookings, "SELECT mrn, day, hour FROM booking")
    installation.start()
    assert installation.patients() == ["P0", "P1", "P2"]
    assert installation.rows("select distinct scheduled_start_date, scheduled_start_time from worklist_items") == [
        ("20300130", "101500")
    ]
    uids = installation.rows(UIDS)
    change(bookings, "DELETE FROM booking WHERE mrn = 'P1'")
    wait_until(lambda: installation.patients() == ["P0", "P2"], "the deleted one is cancelled")
    book(bookings, "P1")
    wait_until(lambda: installation.patients() == ["P0", "P1", "P2"], "it comes back")
    assert installation.rows(UIDS) == uids

    change(bookings, "ALTER TABLE booking RENAME TO moved")
    wait_until(lambda: installation.process("clinic")["last_error"], "the source says what is wrong")
    installation.wait_for_health("degraded")
    assert installation.patients() == ["P0", "P1", "P2"]
    change(bookings, "ALTER TABLE moved RENAME TO booking")
    installation.wait_for_health("healthy")
    address = installation.environment["BOOKING_DB_URL"]
    assert not [path for path in installation.folder.iterdir() if path.is_file() and says(path, address)]


def test_query_with_since_adds_what_changed_and_cancels_nothing(
    installation: Installation, bookings: sa.Engine
) -> None:
    configure(installation, bookings, "SELECT mrn, day, hour FROM booking WHERE changed >= :since")
    installation.start()
    assert installation.patients() == ["P0", "P1", "P2"]
    change(bookings, "DELETE FROM booking")
    book(bookings, "P3")
    wait_until(lambda: "P3" in installation.patients(), "the new one")
    before = len(installation.runs("clinic"))
    wait_until(lambda: len(installation.runs("clinic")) >= before + 2, "two more cycles")
    assert installation.patients() == ["P0", "P1", "P2", "P3"]


def says(path: Path, text: str) -> bool:
    return text.encode() in path.read_bytes()
