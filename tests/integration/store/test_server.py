"""How the database is reached on a PostgreSQL server: within bounded time, in few round trips, read-only where it reads."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, Engine, func, insert, make_url, select, text
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from waiting import wait_until

from pylantir.errors import SchemaMismatch, StoreError
from pylantir.query import WorklistQuery
from pylantir.store.failures import is_passing
from pylantir.store.hosts.leases import enter_host, give_sign
from pylantir.store.read.worklist import read_values
from pylantir.store.schema.engine import open_for_reading, open_for_writing, reading, transaction
from pylantir.store.schema.server import TimedConnection
from pylantir.store.schema.tables import metadata, worklist_items
from pylantir.store.schema.upgrade import prepare_database
from workers.server.news import BEHIND, News
from workers.server.readings import Readings


@pytest.fixture
def writer(postgresql_url: str) -> Iterator[Engine]:
    engine = open_for_writing(postgresql_url, host="host-a")
    prepare_database(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def reader(writer: Engine, postgresql_url: str) -> Iterator[Engine]:
    assert writer
    engine = open_for_reading(postgresql_url, host="host-b", process="mwl-scp")
    yield engine
    engine.dispose()


@pytest.fixture
def hasty(writer: Engine, postgresql_url: str) -> Iterator[Engine]:
    """A reader that gives up after a second."""
    assert writer
    engine = open_for_reading(postgresql_url, statement_s=1.0)
    yield engine
    engine.dispose()


def book(engine: Engine, count: int) -> None:
    rows = [
        {"patient_id": f"P{n}", "scheduled_start_date": "20300101", "scheduled_start_time": "0900"}
        for n in range(count)
    ]
    with engine.begin() as connection:
        connection.execute(insert(worklist_items), rows)


def read_all(engine: Engine) -> list[str]:
    return [row[0] for rows in read_values(engine, WorklistQuery(), ["patient_id"]) for row in rows]


def test_a_scanners_question_needs_three_round_trips(
    writer: Engine, reader: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    book(writer, 3)
    assert len(read_all(reader)) == 3
    waits: list[object] = []
    ask = TimedConnection.wait

    def counted(self: TimedConnection, *arguments: Any, **options: Any) -> Any:
        waits.append(arguments)
        return ask(self, *arguments, **options)

    monkeypatch.setattr(TimedConnection, "wait", counted)
    assert len(read_all(reader)) == 3
    assert 1 <= len(waits) <= 3


def test_a_scanner_that_does_not_read_keeps_no_transaction_open(writer: Engine, reader: Engine) -> None:
    book(writer, 3_100)
    answers = [read_values(reader, WorklistQuery(), ["patient_id"]) for _ in range(40)]
    first = [next(one) for one in answers]
    with writer.connect() as connection:
        begun = text("SELECT count(*) FROM pg_stat_activity WHERE xact_start IS NOT NULL AND pid <> pg_backend_pid() "
                     "AND application_name LIKE '%host-b%'")  # fmt: skip
        assert connection.scalar(begun) == 0
    for beginning, rest in zip(first, answers, strict=True):
        assert [row[0] for rows in (beginning, *rest) for row in rows] == [f"P{n}" for n in range(3_100)]


def test_the_server_knows_the_host_and_the_process(writer: Engine, reader: Engine) -> None:
    for engine, name in ((writer, "pylantir host-a writer"), (reader, "pylantir host-b mwl-scp")):
        with engine.connect() as connection:
            assert connection.scalar(text("SHOW application_name")) == name


def test_who_reads_cannot_write(reader: Engine) -> None:
    with reader.connect() as connection, pytest.raises(SQLAlchemyError, match="read-only"):
        connection.execute(insert(worklist_items), {"patient_id": "P1"})


def test_a_reader_takes_any_host_whatever_the_writer_asks_for(writer: Engine, postgresql_url: str) -> None:
    book(writer, 2)
    folder = make_url(postgresql_url).query["host"]
    database = make_url(postgresql_url).database
    both = f"postgresql://pylantir@/{database}?host=/nowhere&host={folder}&target_session_attrs=read-write"
    engines = [
        open_for_reading(both),
        open_for_reading(postgresql_url, read_url=f"postgresql://pylantir@/{database}?host=/nowhere"),
        open_for_reading("postgresql://pylantir@/x?host=/nowhere", read_url=postgresql_url),
    ]
    for engine in engines:
        assert len(read_all(engine)) == 2
        engine.dispose()
    for asked in ("read-write", "primary", "standby", "any"):
        engine = open_for_writing(both.replace("read-write", asked))
        with engine.connect() as connection:
            assert connection.scalar(select(func.count()).select_from(worklist_items)) == 2
        engine.dispose()


def test_a_database_that_does_not_know_this_host_is_not_read(
    writer: Engine, postgresql_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its patients are others."""
    book(writer, 2)
    with writer.begin() as connection:
        enter_host(connection, "host-a", "run", 5)
    # PostgreSQL copies only what nobody is connected to.
    writer.dispose()
    server = make_url(postgresql_url)
    name = f"{server.database}_copy"
    with psycopg.connect(host=server.query["host"], user="pylantir", dbname="postgres", autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{server.database}"')
    copy_url = server.set(database=name).render_as_string(hide_password=False)
    copy = open_for_writing(copy_url)
    book(copy, 3)
    for host, expected in (("host-a", 5), ("host-b", 2)):
        engine = open_for_reading(postgresql_url, read_url=copy_url, host=host)
        assert len(read_all(engine)) == expected
        engine.dispose()
    assert caplog.messages == [
        'db_read_url is not used, the worklist is read from db_url: it does not know the host "host-b"'
    ]
    copy.dispose()
    with psycopg.connect(host=server.query["host"], user="pylantir", dbname="postgres", autocommit=True) as connection:
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def test_what_is_read_from_a_copy_that_no_host_writes_to_is_told(
    writer: Engine, postgresql_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    news = News()
    news.note_prepared()
    engine = open_for_reading(postgresql_url, read_url=postgresql_url)
    readings = Readings(engine, news, may_lag=True)
    with writer.begin() as connection:
        enter_host(connection, "host-a", "run", 5)
        give_sign(connection, "host-a", "run", "mark")
    readings.look()
    assert not caplog.messages
    with writer.begin() as connection:
        connection.execute(text("UPDATE cluster_hosts SET alive_at = alive_at - 100"))
    readings.look()
    readings.look()
    assert caplog.messages == [f"what scanners get is {BEHIND}"]
    engine.dispose()


def test_nothing_depends_on_the_defaults_that_an_administrator_has_set(
    postgresql_server: str, postgresql_url: str
) -> None:
    name = make_url(postgresql_url).database
    hostile = {
        "statement_timeout": "1min", "lock_timeout": "1ms", "idle_session_timeout": "1min", "client_encoding": "LATIN1",
        "default_transaction_isolation": "serializable", "default_transaction_deferrable": "on", "DateStyle": "SQL,DMY",
        "TimeZone": "Pacific/Apia", "standard_conforming_strings": "off", "synchronous_commit": "off",
        "extra_float_digits": "-15", "bytea_output": "escape",
    }  # fmt: skip
    with psycopg.connect(host=postgresql_server, user="pylantir", dbname="postgres", autocommit=True) as connection:
        for setting, value in hostile.items():
            connection.execute(f"ALTER DATABASE \"{name}\" SET {setting} = '{value}'".encode())
    writer, reader = open_for_writing(postgresql_url, host="host-a"), open_for_reading(postgresql_url)
    prepare_database(writer)
    with writer.begin() as connection:
        before = connection.scalar(text("SELECT EXTRACT(EPOCH FROM now())::bigint"))
        enter_host(connection, "host-a", "run", 5)
        assert before - 1 <= give_sign(connection, "host-a", "run", "mark") <= before + 100
        rows = {"patient_id": "P\\1", "patient_name": "Ōta^Ł", "scheduled_start_date": "20300101"}
        connection.execute(insert(worklist_items), rows)
        assert shown(connection, "statement_timeout", "lock_timeout") == ["15s", "2s"]
        assert shown(connection, "transaction_isolation") == ["read committed"]
    with reading(writer) as connection:
        assert shown(connection, "statement_timeout", "lock_timeout", "idle_session_timeout") == ["15s", "2s", "0"]
    with transaction(writer, pipelined=True) as connection:
        assert shown(connection, "synchronous_commit", "lock_timeout") == ["on", "2s"]
    with reader.connect() as connection:
        assert shown(connection, "statement_timeout", "lock_timeout", "client_encoding") == ["5s", "4500ms", "UTF8"]
        assert shown(connection, "transaction_isolation", "transaction_read_only") == ["read committed", "on"]
    query = WorklistQuery(equal={"patient_id": ("P\\1",)})
    found = [row for rows in read_values(reader, query, ["patient_name"]) for row in rows]
    assert [value for row in found for value in row] == ["Ōta^Ł"]
    writer.dispose()
    reader.dispose()


def shown(connection: Connection, *settings: str) -> list[str]:
    return [str(connection.scalar(text(f"SHOW {name}"))) for name in settings]


def connect(hasty: Engine) -> int | None:
    """Return the server's process for a connection that is open from now on; None: it took too long."""
    with suppress(OperationalError), hasty.connect() as connection:
        return int(connection.scalar(text("SELECT pg_backend_pid()")))
    return None


def test_a_server_that_stops_while_it_is_asked_is_given_up(writer: Engine, reader: Engine, hasty: Engine) -> None:
    book(writer, 1)
    pid = wait_until(lambda: connect(hasty), "it is connected")
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(OperationalError, match="has not answered"), hasty.connect() as connection:
            connection.scalar(text("SELECT 1"))
        # Others have connections of their own.
        assert read_all(reader) == ["P0"]
    finally:
        os.kill(pid, signal.SIGCONT)


def test_the_server_ends_a_statement_that_takes_too_long(hasty: Engine) -> None:
    wait_until(lambda: connect(hasty), "it is connected")
    with hasty.connect() as connection, pytest.raises(SQLAlchemyError, match="timeout"):
        connection.scalar(text("SELECT pg_sleep(60)"))


def test_an_address_that_says_nothing_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        engine = open_for_reading(f"postgresql://pylantir@127.0.0.1:{silent.getsockname()[1]}/x")
        with pytest.raises(OperationalError, match=r"the database server 127\.0\.0\.1, port"), engine.connect():
            pass


def test_a_closed_connection_is_replaced_without_a_failure(writer: Engine, reader: Engine) -> None:
    book(writer, 1)
    assert read_all(reader) == ["P0"]
    with writer.begin() as connection:
        ended = text(
            "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE application_name LIKE '%host-b%'"
        )
        assert connection.scalar(ended) == 1
    assert read_all(reader) == ["P0"]


def test_an_encoding_that_cannot_hold_every_name_is_refused(postgresql_server: str, postgresql_url: str) -> None:
    import psycopg

    name = f"{make_url(postgresql_url).database}_latin"
    with psycopg.connect(host=postgresql_server, user="pylantir", dbname="postgres", autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" ENCODING LATIN1 TEMPLATE template0')
        try:
            engine = open_for_writing(f"postgresql://pylantir@/{name}?host={postgresql_server}")
            with pytest.raises(SchemaMismatch, match="LATIN1"):
                prepare_database(engine)
            with engine.connect() as found:
                assert not set(found.dialect.get_table_names(found)) & set(metadata.tables)
            engine.dispose()
        finally:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def test_a_role_without_the_right_is_told_so(postgresql_server: str, postgresql_url: str) -> None:
    import psycopg

    database = make_url(postgresql_url).database
    role = f"nobody_{database}"
    with psycopg.connect(host=postgresql_server, user="pylantir", dbname="postgres", autocommit=True) as connection:
        connection.execute(f'CREATE ROLE "{role}" LOGIN')
        try:
            engine = open_for_writing(f"postgresql://{role}@/{database}?host={postgresql_server}")
            with pytest.raises(SchemaMismatch, match="permission denied for schema public"):
                prepare_database(engine)
            engine.dispose()
        finally:
            connection.execute(f'DROP ROLE "{role}"')


def test_a_reader_recovers_when_the_tables_are_found_again(
    writer: Engine, reader: Engine, postgresql_server: str, postgresql_url: str
) -> None:
    book(writer, 1)
    with psycopg.connect(host=postgresql_server, user="pylantir", dbname="postgres", autocommit=True) as connection:
        database = make_url(postgresql_url).database
        connection.execute(f'ALTER DATABASE "{database}" SET search_path = nowhere'.encode())
        with pytest.raises(StoreError, match="worklist_items"):
            read_all(reader)
        connection.execute(f'ALTER DATABASE "{database}" RESET search_path'.encode())
    assert read_all(reader) == ["P0"]


def test_a_table_that_is_somebody_elses_for_now_is_waited_for(postgresql_server: str, postgresql_url: str) -> None:
    database = make_url(postgresql_url).database
    role = f"writer_{database}"
    with psycopg.connect(host=postgresql_server, user="pylantir", dbname=database, autocommit=True) as connection:
        connection.execute(f'CREATE ROLE "{role}" LOGIN'.encode())
        try:
            connection.execute(f'GRANT CREATE ON SCHEMA public TO "{role}"'.encode())
            connection.execute("CREATE TABLE worklist_items (id integer)")
            engine = open_for_writing(f"postgresql://{role}@/{database}?host={postgresql_server}")
            with pytest.raises(SQLAlchemyError, match="must be owner of table worklist_items") as raised:
                prepare_database(engine)
            assert is_passing(raised.value)
            connection.execute(f'ALTER TABLE worklist_items OWNER TO "{role}"'.encode())
            prepare_database(engine)
            engine.dispose()
        finally:
            connection.execute(f'DROP OWNED BY "{role}"; DROP ROLE "{role}"'.encode())
