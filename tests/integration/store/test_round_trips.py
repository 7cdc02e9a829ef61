"""A database may be far away: how often a batch waits for a PostgreSQL server, counted on the way between the two."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from frozen_relay import Relay
from sqlalchemy import Engine, make_url, select
from sqlalchemy.exc import DBAPIError, IntegrityError
from worklist_store import Feed, Record, check_audit, items, quarantine, record, report_from_scanner, served

from pylantir.store.failures import is_passing
from pylantir.store.hosts.leases import take_leases
from pylantir.store.schema import writers_lock
from pylantir.store.schema.bulk import ask_statement
from pylantir.store.schema.engine import hear, open_for_writing, transaction
from pylantir.store.schema.tables import source_entries, source_warnings
from pylantir.store.schema.upgrade import prepare_database

MOST = 6
"""So many round trips a batch may need."""


@pytest.fixture(autouse=True)
def uncounted(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a batch gives signs of life in between; they are no part of it."""
    monkeypatch.setattr(writers_lock, "LIFE_SIGN_EVERY_S", math.inf)


@pytest.fixture
def relay(postgresql_server: str) -> Iterator[Relay]:
    made = Relay(f"{postgresql_server}/.s.PGSQL.5432")
    yield made
    made.close()


@pytest.fixture
def far(relay: Relay, postgresql_url: str) -> Iterator[Engine]:
    engine = open_for_writing(
        f"postgresql+psycopg://pylantir@127.0.0.1:{relay.port}/{make_url(postgresql_url).database}"
    )
    prepare_database(engine)
    yield engine
    engine.dispose()


def feed_with_lease(engine: Engine, name: str) -> Feed:
    """A source that this host fetches and another could."""
    feed = Feed(engine, name)
    with engine.begin() as connection:
        feed.options["tenure"] = take_leases(connection, [name], "north", "instance")[name]
    feed.restart()
    return feed


def count_waits(relay: Relay, feed: Feed, *records: Record) -> int:
    """Give a cycle of one batch; return how often its batch waited for the server."""
    (batch,) = feed.batches(records)
    before = relay.waits
    feed.apply(batch)
    waits = relay.waits - before
    feed.finish(feed.end([batch]))
    return waits


def numbered(count: int, **fields: str) -> list[Record]:
    return [
        record(str(n), patient=f"P{n}", **{name: f"{value}{n}" for name, value in fields.items()}) for n in range(count)
    ]


def test_a_batch_needs_six_round_trips_at_most(relay: Relay, far: Engine) -> None:
    feed = feed_with_lease(far, "ris")
    new = numbered(40, accession_number="A", study_instance_uid="1.2.")
    assert count_waits(relay, feed, *new) <= MOST
    assert count_waits(relay, feed, *new) <= 3, "nothing has changed"

    later = [(key, {**fields, "scheduled_start_time": "100000"}) for key, fields in new]
    assert count_waits(relay, feed, *later) <= MOST
    corrected = [(key, {**fields, "accession_number": f"B{n}"}) for n, (key, fields) in enumerate(later)]
    assert count_waits(relay, feed, *corrected) <= MOST
    added = [*corrected, record("x", patient="P1", scheduled_start_date="20300801"), record("y", patient="Q1")]
    assert count_waits(relay, feed, *added) <= MOST
    assert len(served(far)) == 42

    # Another source has the same patients, and some of their numbers.
    report_from_scanner(far, items(far, patient_id="P3")[0]["id"], "COMPLETED", ended_on="20300701")
    other = feed_with_lease(far, "csv")
    assert count_waits(relay, other, *numbered(40, accession_number="B")) <= MOST
    check_audit(far)


def test_a_record_that_cannot_be_stored_is_found_although_its_statement_was_only_collected(far: Engine) -> None:
    # The database takes no such number, whatever the program believes.
    with far.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE worklist_items ADD CHECK (accession_number <> 'A2')")
    feed = feed_with_lease(far, "ris")
    summary = feed.sync(*numbered(4, accession_number="A"))
    assert (summary.counts["inserted"], summary.counts["rejected"]) == (3, 1)
    assert [patient for patient, *_ in served(far)] == ["P0", "P1", "P3"]
    assert [row["reason"][:26] for row in quarantine(far).values()] == ["cannot be stored (Integrit"]
    check_audit(far)


def test_a_collected_statement_that_fails_undoes_the_transaction(far: Engine) -> None:
    wrong = {"data_source": "ris", "field": "f", "reason": "r", "count": None, "last_seen_at": ""}

    def write(*, is_heard: bool) -> None:
        with transaction(far, pipelined=True) as connection:
            connection.exec_driver_sql("INSERT INTO store_facts (name, value) VALUES ('a', 'b')")
            connection.execute(source_warnings.insert().inline(), wrong)
            if is_heard:
                hear(connection)

    for is_heard in (True, False):
        with pytest.raises(IntegrityError):
            write(is_heard=is_heard)
        with far.connect() as connection:
            assert not connection.exec_driver_sql("SELECT 1 FROM store_facts WHERE name = 'a'").all()
            assert connection.execute(select(source_entries.c.id)).all() == []


def fail_and_go_on(engine: Engine, code: str) -> None:
    """Let a collected statement fail, and ask on, so that its answer comes some time."""
    with transaction(engine, pipelined=True) as connection:
        connection.exec_driver_sql(f"DO $$ BEGIN RAISE EXCEPTION 'injected' USING ERRCODE = '{code}'; END $$")
        for _ in range(200):
            ask_statement(connection, select(1))
        hear(connection)


@pytest.mark.parametrize("code", ["40P01", "53100", "42501", "23505"])
def test_the_first_failure_is_told_although_its_answer_came_while_the_next_query_was_asked(
    postgresql_url: str, code: str
) -> None:
    engine = open_for_writing(postgresql_url)
    with pytest.raises(DBAPIError) as raised:
        fail_and_go_on(engine, code)
    assert raised.value.orig.sqlstate == code  # type: ignore[union-attr]
    assert is_passing(raised.value) is (code != "23505")
    engine.dispose()


def test_a_transaction_that_only_writes_is_committed(far: Engine) -> None:
    with transaction(far, pipelined=True) as connection:
        connection.exec_driver_sql("INSERT INTO store_facts (name, value) VALUES ('a', 'b')")
    with transaction(far, dry_run=True, pipelined=True) as connection:
        connection.exec_driver_sql("INSERT INTO store_facts (name, value) VALUES ('c', 'd')")
    with far.connect() as connection:
        stored = connection.exec_driver_sql("SELECT name FROM store_facts WHERE name IN ('a', 'c')").all()
    assert [tuple(row) for row in stored] == [("a",)]


def test_nothing_without_an_answer_is_sent_after_a_transaction(postgresql_url: str, tmp_path: Path) -> None:
    """A pooler would give it a connection, and then wait for the answer."""
    engine = open_for_writing(postgresql_url)
    prepare_database(engine)
    with (tmp_path / "trace").open("w+") as trace:
        for fails in (False, True):
            with suppress(IntegrityError), transaction(engine, pipelined=True) as connection:
                driver: Any = connection.connection.driver_connection
                driver.pgconn.trace(trace.fileno())
                name = None if fails else "a"
                connection.exec_driver_sql("INSERT INTO store_facts (name, value) VALUES (%s, 'b')", (name,))
            driver.pgconn.untrace()
            trace.seek(0)
            # Time, F for what we send, length, name of the message.
            sent = [line.split("\t")[3].strip() for line in trace if line.split("\t")[1] == "F"]
            assert sent[-1] in {"Query", "Sync"}, sent
    engine.dispose()
