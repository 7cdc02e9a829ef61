from __future__ import annotations

import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from waiting import wait_until

from pylantir.data_sources import sql_connection
from pylantir.data_sources.sql import SqlPlugin
from pylantir.errors import SourceUnavailable
from pylantir.testing import run_plugin

SELECT = "SELECT mrn, day, hour, doctor FROM booking ORDER BY mrn"
MAPPING = {"mrn": "patient_id", "day": "scheduled_start_date", "hour": "scheduled_start_time"}


def test_a_text_that_is_not_utf8_costs_only_its_own_record(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE booking (id, name, day)")
        latin = "M\xfcller^Jane".encode("latin-1").hex()
        connection.execute(f"INSERT INTO booking VALUES ('P1', CAST(x'{latin}' AS TEXT), '2026-12-01')")
        connection.execute("INSERT INTO booking VALUES (CAST(x'50fc' AS TEXT), 'Doe^Jane', '2026-12-01')")
        connection.execute("INSERT INTO booking VALUES ('P3', 'M\xfcller^Jane', '2026-12-01')")
    connection.close()
    plugin_config = {"url": f"sqlite:///{path}", "query": "SELECT * FROM booking"}
    mapping = {"id": "patient_id", "name": "patient_name", "day": "scheduled_start_date"}
    result = run_plugin(SqlPlugin, config=plugin_config, field_mapping=mapping)
    assert [(entry["patient_id"], entry.get("patient_name")) for entry in result.entries] == [
        ("P1", None),
        ("P3", "M\xfcller^Jane"),
    ]
    assert [(one.record, one.field) for one in result.rejected] == [("row 2", "patient_id")]
    told = [result.rejected[0].reason, *(warning.reason for warning in result.warnings)]
    assert len(told) == 2
    assert all("byte that is no text" in reason for reason in told)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sa.Engine]:
    """A database with two bookings; its URL is the engine's."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'bookings.db'}"
    else:
        url = request.getfixturevalue("postgresql_url")
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TABLE booking (mrn TEXT, day DATE, hour TIME, doctor TEXT, weight NUMERIC, changed TIMESTAMP)"
        )
    add(engine, "P1", minutes_ago=1)
    add(engine, "P2", minutes_ago=180)
    yield engine
    engine.dispose()


def add(engine: sa.Engine, mrn: str, minutes_ago: float) -> None:
    import datetime

    changed = datetime.datetime.now(datetime.UTC).replace(tzinfo=None) - datetime.timedelta(minutes=minutes_ago)
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO booking VALUES (:mrn, '2026-12-01', '09:30:00', 'House^Greg', 70.5, :changed)"
            ).bindparams(sa.bindparam("changed", type_=sa.DateTime())),
            {"mrn": mrn, "changed": changed},
        )


def make_plugin(url: object, query: str = SELECT, **config: Any) -> SqlPlugin:
    plugin = SqlPlugin()
    text = url.render_as_string(hide_password=False) if isinstance(url, sa.URL) else url
    config = {"url": text, "query": query} | config
    assert plugin.validate_config(config) == (True, "")
    return plugin


def fetch(plugin: SqlPlugin, mapping: dict[str, str] = MAPPING, interval: float = 600) -> list[dict[str, Any]]:
    return list(plugin.fetch_entries(mapping, interval))  # type: ignore[arg-type]


def test_rows_become_entries(database: sa.Engine) -> None:
    first, second = fetch(make_plugin(database.url))
    assert (first["patient_id"], str(first["scheduled_start_date"])) == ("P1", "2026-12-01")
    assert str(first["scheduled_start_time"]) == "09:30:00"
    assert (first["_record"], second["_record"]) == ("row 1", "row 2")


def test_columns_may_be_named_as_worklist_fields(database: sa.Engine) -> None:
    query = "SELECT mrn AS patient_id, day AS scheduled_start_date, weight AS patient_weight_kg FROM booking"
    assert {str(entry["patient_weight_kg"]) for entry in fetch(make_plugin(database.url, query), {})} == {"70.5"}


def test_values_are_understood_by_the_host(database: sa.Engine) -> None:
    from pylantir.mapping import EntryMapper

    mapping = MAPPING | {"doctor": "performing_physician"}
    fields = EntryMapper().to_entry(fetch(make_plugin(database.url), mapping)[0]).fields
    assert (fields["scheduled_start_date"], fields["scheduled_start_time"]) == ("20261201", "093000")


def test_query_without_since_is_a_complete_picture(database: sa.Engine) -> None:
    assert make_plugin(database.url).supports_incremental_sync() is False


@pytest.mark.parametrize("zone", [{}, {"timezone": "UTC"}])
def test_query_with_since_gives_what_changed(database: sa.Engine, zone: dict[str, str]) -> None:
    query = "SELECT mrn, day, hour FROM booking WHERE changed >= :since"
    plugin = make_plugin(database.url, query, **zone)
    assert plugin.supports_incremental_sync() is True
    # The hours on the first line are those that an untold time zone can be off.
    assert [entry["patient_id"] for entry in fetch(plugin)][:1] == ["P1"]
    assert len(fetch(plugin, interval=10 * 365.25 * 86400)) == 2
    if zone:
        assert len(fetch(plugin)) == 1


def test_conditions_beside_since_are_told_once(database: sa.Engine, caplog: pytest.LogCaptureFixture) -> None:
    told = 'what "where" leaves out later on stays on the worklist'
    for query, times in ((SELECT, 0), ("SELECT mrn, day, hour FROM booking WHERE changed >= :since", 1)):
        plugin = make_plugin(database.url, query)
        plugin.where = {"mrn": ["P1"]}
        fetch(plugin)
        fetch(plugin)
        assert caplog.text.count(told) == times


def test_since_is_right_for_timestamps_with_a_time_zone(postgresql_url: str) -> None:
    engine = sa.create_engine(postgresql_url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE booking (mrn TEXT, changed TIMESTAMPTZ)")
        connection.exec_driver_sql("INSERT INTO booking VALUES ('P1', now() - interval '1 minute')")
        connection.exec_driver_sql("INSERT INTO booking VALUES ('P2', now() - interval '30 minutes')")
    query = "SELECT mrn FROM booking WHERE changed >= :since"
    for zone in ("Pacific/Kiritimati", "America/Edmonton"):
        assert fetch(make_plugin(postgresql_url, query, timezone=zone), {})[0]["mrn"] == "P1"
        assert len(fetch(make_plugin(postgresql_url, query, timezone=zone), {})) == 1


def test_connection_is_closed_between_cycles(database: sa.Engine) -> None:
    plugin = make_plugin(database.url)
    fetch(plugin)
    half = plugin.fetch_entries(MAPPING, 60)
    next(iter(half))
    half.close()
    if database.dialect.name == "postgresql":
        with database.connect() as connection:
            count = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state IS NOT NULL"
            wait_until(lambda: connection.exec_driver_sql(count).scalar() == 1, "the query has been ended")
    else:
        with database.begin() as connection:
            connection.exec_driver_sql("DROP TABLE booking")


def test_query_cannot_change_the_database(database: sa.Engine) -> None:
    for statement in ("DELETE FROM booking RETURNING mrn, day, hour", "DELETE FROM booking"):
        # PostgreSQL's cursors take nothing but queries.
        with pytest.raises(SourceUnavailable, match=r"readonly|syntax error at or near .DELETE"):
            fetch(make_plugin(database.url, statement))
    assert len(fetch(make_plugin(database.url))) == 2


def test_function_that_a_query_calls_cannot_change_the_database(postgresql_url: str) -> None:
    engine = sa.create_engine(postgresql_url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE SEQUENCE numbers")
    with pytest.raises(SourceUnavailable, match="read-only transaction"):
        fetch(make_plugin(postgresql_url, "SELECT nextval('numbers')"), {})


def test_query_that_takes_too_long_is_ended(database: sa.Engine) -> None:
    slow = {
        "postgresql": "SELECT pg_sleep(60)",
        "sqlite": "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n",
    }[database.dialect.name]
    with pytest.raises(SourceUnavailable, match=r"no rows within 0\.2 s"):
        fetch(make_plugin(database.url, slow, statement_timeout=0.2), {})


def test_missing_columns_are_named_with_those_that_exist(database: sa.Engine) -> None:
    with pytest.raises(
        SourceUnavailable, match='gives no column "mrm": did you mean "mrn"\\?; it gives mrn, day, hour'
    ):
        fetch(make_plugin(database.url), {"mrm": "patient_id"})


def test_columns_are_found_whatever_their_capitals(database: sa.Engine) -> None:
    assert fetch(make_plugin(database.url), {"MRN": "patient_id"})[0]["patient_id"] == "P1"


@pytest.mark.parametrize(("query", "told"), [("SELECT nothing FROM booking", "nothing"), ("SELEC", "(?i)syntax")])
def test_wrong_query_is_told_in_the_databases_words(database: sa.Engine, query: str, told: str) -> None:
    with pytest.raises(SourceUnavailable, match=told):
        fetch(make_plugin(database.url, query))


def test_values_of_patients_stay_out_of_messages(postgresql_url: str) -> None:
    with pytest.raises(SourceUnavailable) as caught:
        fetch(make_plugin(postgresql_url, "SELECT CAST(x AS date) FROM (VALUES ('Doe^Jane')) AS v(x)"))
    assert "Doe" not in str(caught.value)


def test_query_may_stand_in_a_file(database: sa.Engine, tmp_path: Path) -> None:
    file = tmp_path / "bookings.sql"
    plugin = SqlPlugin()
    url = database.url.render_as_string(hide_password=False)
    assert plugin.validate_config({"url": url, "query_file": str(file)}) == (True, "")
    with pytest.raises(SourceUnavailable, match=r"bookings\.sql cannot be read: No such file"):
        fetch(plugin)
    file.write_text(SELECT + ";\n")
    assert plugin.supports_incremental_sync() is False
    assert len(fetch(plugin)) == 2


def test_query_file_that_changes_after_the_host_asked_counts_in_the_next_cycle(
    database: sa.Engine, tmp_path: Path
) -> None:
    file = tmp_path / "bookings.sql"
    file.write_text(SELECT)
    plugin = SqlPlugin()
    plugin.validate_config({"url": database.url.render_as_string(hide_password=False), "query_file": str(file)})
    assert plugin.supports_incremental_sync() is False
    file.write_text("SELECT mrn, day, hour FROM booking WHERE changed >= :since")
    assert len(fetch(plugin)) == 2
    assert plugin.supports_incremental_sync() is True


@pytest.mark.parametrize("options", ["", "?timeout=5", "?mode=ro"])
def test_sqlite_file_that_is_not_there_is_not_made(tmp_path: Path, options: str) -> None:
    path = tmp_path / "typo.db"
    with pytest.raises(SourceUnavailable, match=r"typo\.db is not there"):
        fetch(make_plugin(f"sqlite:///{path}{options}"))
    assert not path.exists()


def test_sqlite_file_of_any_name_is_read(tmp_path: Path) -> None:
    path = tmp_path / "50% #1.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE booking AS SELECT 'P1' AS mrn")
    connection.close()
    url = sa.URL.create("sqlite", database=str(path))
    assert fetch(make_plugin(url, "SELECT mrn FROM booking"), {"mrn": "patient_id"})[0]["patient_id"] == "P1"


def test_server_that_is_down_is_named_without_its_password() -> None:
    with pytest.raises(SourceUnavailable, match=r"postgresql 127\.0\.0\.1 db: .*refused") as caught:
        fetch(make_plugin("postgresql://user:hunter22@127.0.0.1:1/db"))
    assert "hunter22" not in str(caught.value)


@pytest.mark.parametrize(
    ("option", "told"),
    [("nix=1", "does not know an option of the address"), ("ssl_ca=/no/such.pem", "No such file or directory")],
)
def test_an_option_that_the_driver_refuses_is_told_in_one_line(option: str, told: str) -> None:
    with pytest.raises(SourceUnavailable, match=told) as caught:
        fetch(make_plugin(f"mysql+pymysql://me:hunter22@127.0.0.1:1/bookings?{option}"))
    assert "hunter22" not in str(caught.value)


def test_a_server_that_says_nothing_is_given_up_whatever_the_address_says_about_connecting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sql_connection, "_CONNECT_TIMEOUT_S", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"mysql+pymysql://me@127.0.0.1:{silent.getsockname()[1]}/bookings?connect_timeout=30"
        with pytest.raises(SourceUnavailable, match="Lost connection"):
            fetch(make_plugin(address, statement_timeout=0.1))


def test_an_address_whose_port_is_no_number_is_no_address() -> None:
    with pytest.raises(SourceUnavailable, match="not a database address") as caught:
        fetch(make_plugin("mysql+pymysql://me:hunter22@host:33o6/bookings"))
    assert "hunter22" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("mysql://u@h/d", 'driver "MySQLdb" for mysql is missing: pip install pymysql'),
        ("nonesuch://u@h/d", 'unknown kind of database "nonesuch"'),
    ],
)
def test_missing_driver_is_named(url: str, told: str) -> None:
    with pytest.raises(SourceUnavailable, match=told):
        fetch(make_plugin(url))


def test_rows_are_streamed(database: sa.Engine) -> None:
    numbers = {
        "postgresql": "SELECT generate_series(1, 3000000) AS n",
        "sqlite": "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n LIMIT 300000000) SELECT n FROM n",
    }[database.dialect.name]
    rows = iter(make_plugin(database.url, numbers, fetch_size=10).fetch_entries({"n": "patient_id"}, 60))
    assert [next(rows)["patient_id"] for _ in range(25)][-1] == 25  # type: ignore[index]
