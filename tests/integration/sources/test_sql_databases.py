"""What databases give that is unlike the others: zones, moments out of range, columns of one name; a real MariaDB."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from pylantir.data_sources.sql import SqlPlugin
from pylantir.errors import SourceUnavailable

MAPPING = {"mrn": "patient_id", "begins": "scheduled_start"}


def fetch(url: str, query: str, mapping: dict[str, Any] | None = None, zone: str = "", **config: Any) -> list[Any]:
    plugin = SqlPlugin()
    plugin.timezone = zone
    assert plugin.validate_config({"url": url, "query": query, **config}) == (True, "")
    return list(plugin.fetch_entries(MAPPING if mapping is None else mapping, 600))


def run(url: str, *statements: str) -> None:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


@pytest.fixture(params=["postgresql", "mariadb", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        (tmp_path / "bookings.db").touch()
        return f"sqlite:///{tmp_path / 'bookings.db'}"
    return str(request.getfixturevalue(f"{request.param}_url"))


def test_a_mapped_column_that_stands_twice_fails_the_fetch(url: str) -> None:
    run(
        url,
        "CREATE TABLE patient (mrn VARCHAR(9), name VARCHAR(40))",
        "CREATE TABLE doctor (mrn VARCHAR(9), name VARCHAR(40))",
        "INSERT INTO patient VALUES ('P1', 'Doe^Jane')",
        "INSERT INTO doctor VALUES ('P1', 'House^Greg')",
    )
    query = "SELECT * FROM patient JOIN doctor ON doctor.mrn = patient.mrn"
    mapping = {"mrn": "patient_id", "name": "patient_name"}
    with pytest.raises(SourceUnavailable) as caught:
        fetch(url, query, mapping)
    assert '"mrn" stands at the positions 1 and 3; "name" stands at the positions 2 and 4' in str(caught.value)
    capitals = 'SELECT patient.mrn, patient.name, doctor.name AS "NAME" FROM patient, doctor'
    if not url.startswith("mysql"):
        with pytest.raises(SourceUnavailable, match='"name" stands at the positions 2 and 3'):
            fetch(url, capitals, mapping)
    # Of no consequence where nobody maps it.
    assert fetch(url, query.replace("*", "patient.mrn, patient.name AS a, doctor.name AS a"), {"mrn": "patient_id"})


def test_columns_named_as_worklist_fields_need_no_mapping_whatever_their_capitals(url: str) -> None:
    (entry,) = fetch(
        url, "SELECT 'P1' AS \"Patient_ID\"" if not url.startswith("mysql") else "SELECT 'P1' AS Patient_ID", {}
    )
    assert entry["patient_id"] == "P1"
    with pytest.raises(SourceUnavailable, match='"patient_id" stands at the positions 1 and 2'):
        fetch(url, "SELECT 'P1' AS patient_id, 'P2' AS patient_id", {})


def test_rows_may_be_left_out_by_a_column_that_is_not_mapped(url: str) -> None:
    plugin = SqlPlugin()
    plugin.where = {"room": ["3"]}
    query = "SELECT 'P1' AS patient_id, 3 AS room UNION SELECT 'P2', 4 ORDER BY 1"
    assert plugin.validate_config({"url": url, "query": query}) == (True, "")
    for mapping in ({}, {"patient_id": "patient_id"}):
        kept, left_out = plugin.fetch_entries(mapping, 60)
        assert kept["patient_id"] == "P1"  # type: ignore[index]
        assert "patient_id" not in left_out  # type: ignore[operator]


def test_moments_keep_the_zone_of_the_server_or_get_that_of_the_source(postgresql_url: str) -> None:
    database = postgresql_url.partition("?")[0].rpartition("/")[2]
    run(
        postgresql_url,
        "CREATE TABLE booking (mrn TEXT, begins TIMESTAMPTZ)",
        "INSERT INTO booking VALUES ('P1', '2026-12-01 19:30-07')",
        f"ALTER DATABASE \"{database}\" SET timezone TO 'America/Edmonton'",
    )
    query = "SELECT mrn, begins, begins::date AS day FROM booking"
    mapping = {**MAPPING, "day": "patient_birth_date"}
    for zone, shown, day in (("", "2026-12-01T19:30:00-07:00", 1), ("Europe/Berlin", "2026-12-02T03:30:00+01:00", 2)):
        (entry,) = fetch(postgresql_url, query, mapping, zone)
        assert entry["scheduled_start"].isoformat() == shown
        assert entry["patient_birth_date"] == datetime.date(2026, 12, day)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("date", "infinity"),
        ("date", "-infinity"),
        ("date", "0044-03-15 BC"),
        ("date", "20261-01-01"),
        ("timestamp", "infinity"),
        ("timestamp", "0044-03-15 BC"),
        ("timestamptz", "infinity"),
        ("timestamptz", "0044-03-15 12:00 BC"),
        ("time", "24:00"),
        ("timetz", "24:00+01"),
    ],
)
def test_a_moment_out_of_range_costs_its_own_record_only(postgresql_url: str, kind: str, value: str) -> None:
    good = {"date": "2026-12-01", "time": "09:30", "timetz": "09:30+00"}.get(kind, "2026-12-01 09:30")
    query = f"SELECT * FROM (VALUES ('P1', '{value}'::{kind}), ('P2', '{good}'::{kind})) AS booking (mrn, begins)"
    strange, fine = fetch(postgresql_url, query)
    assert isinstance(strange["scheduled_start"], str)
    assert not isinstance(fine["scheduled_start"], str)


def test_mariadb_gives_dates_times_and_numbers(mariadb_url: str) -> None:
    run(
        mariadb_url,
        "CREATE TABLE booking (mrn VARCHAR(9), day DATE, hour TIME, begins DATETIME, weight DECIMAL(5,1), name TEXT)",
        "INSERT INTO booking VALUES ('P1', '2026-12-01', '09:30', '2026-12-01 09:30', 70.5, 'Müller^Zoë')",
    )
    mapping = MAPPING | {"day": "patient_birth_date", "hour": "scheduled_start_time", "name": "patient_name"}
    (entry,) = fetch(mariadb_url, "SELECT * FROM booking", mapping)
    assert entry["patient_birth_date"] == datetime.date(2026, 12, 1)
    assert (entry["scheduled_start_time"], entry["patient_name"]) == ("09:30:00", "Müller^Zoë")
    assert entry["scheduled_start"] == datetime.datetime(2026, 12, 1, 9, 30)  # noqa: DTZ001


def test_mariadb_keeps_its_zone_and_refuses_one_that_it_does_not_know(mariadb_url: str) -> None:
    query = "SELECT 'P1' AS mrn, FROM_UNIXTIME(1798700000) AS begins"
    (as_the_server,) = fetch(mariadb_url, query)
    here = datetime.datetime.fromtimestamp(1798700000)  # noqa: DTZ006 - the server runs in this machine's zone
    assert as_the_server["scheduled_start"] == here
    with pytest.raises(SourceUnavailable, match="Pacific/Kiritimati and has another one itself"):
        fetch(mariadb_url, query, zone="Pacific/Kiritimati")


def test_mariadb_gives_what_changed(mariadb_url: str) -> None:
    run(
        mariadb_url,
        "CREATE TABLE booking (mrn VARCHAR(9), begins DATETIME, changed TIMESTAMP)",
        "INSERT INTO booking VALUES ('P1', '2026-12-01 09:30', NOW() - INTERVAL 1 MINUTE)",
        "INSERT INTO booking VALUES ('P2', '2026-12-01 09:30', NOW() - INTERVAL 3 DAY)",
    )
    entries = fetch(mariadb_url, "SELECT mrn, begins FROM booking WHERE changed >= :since")
    assert [entry["patient_id"] for entry in entries] == ["P1"]


def test_mariadb_is_only_read(mariadb_url: str) -> None:
    run(mariadb_url, "CREATE TABLE booking (mrn VARCHAR(9))")
    with pytest.raises(SourceUnavailable, match="READ ONLY"):
        fetch(mariadb_url, "INSERT INTO booking VALUES ('P1') RETURNING mrn", {})


def test_mariadb_ends_a_query_that_takes_too_long(mariadb_url: str) -> None:
    with pytest.raises(SourceUnavailable, match=r"speed the query up or raise statement_timeout"):
        fetch(
            mariadb_url, "SELECT a.seq FROM seq_1_to_900000 a, seq_1_to_900000 b ORDER BY 1", {}, statement_timeout=0.5
        )


def test_mariadb_streams(mariadb_url: str) -> None:
    plugin = SqlPlugin()
    plugin.validate_config({"url": mariadb_url, "query": "SELECT seq AS patient_id FROM seq_1_to_200000"})
    assert sum(1 for _ in plugin.fetch_entries({}, 60)) == 200_000


def test_mariadb_that_refuses_the_user_is_told_without_the_password(mariadb_url: str) -> None:
    with pytest.raises(SourceUnavailable) as caught:
        fetch(mariadb_url.replace("root@", "nobody:hunter22@"), "SELECT 1")
    assert "hunter22" not in str(caught.value)
    assert "nobody" in str(caught.value)


def test_the_message_of_a_databases_own_routine_is_not_repeated(mariadb_url: str) -> None:
    run(
        mariadb_url,
        "CREATE FUNCTION checked() RETURNS INT DETERMINISTIC"
        " BEGIN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'Doe^Jane'; RETURN 1; END",
    )
    with pytest.raises(SourceUnavailable) as failed:
        fetch(mariadb_url, "SELECT checked() AS mrn, '2030-01-01' AS begins")
    assert "a routine of the database" in str(failed.value)
    assert "Doe" not in str(failed.value)
