"""Writers of several hosts on one PostgreSQL: they take turns, also where one of them has not finished."""

from __future__ import annotations

import datetime
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, Engine, func, insert, make_url, select, text
from sqlalchemy.exc import DBAPIError, InternalError
from waiting import wait_until
from worklist_store import RULES, Feed, record, rows

from pylantir.mpps.model import MppsAnswer, MppsRequest
from pylantir.store.change.reports import record_report
from pylantir.store.failures import is_lock_timeout
from pylantir.store.schema.engine import open_for_writing, reading, transaction
from pylantir.store.schema.tables import audit_log, worklist_items
from pylantir.store.schema.upgrade import prepare_database
from pylantir.store.schema.writers_lock import WRITERS_LOCK, look_at_holder

NOW = datetime.datetime(2030, 7, 1, 10, tzinfo=datetime.UTC)


@contextmanager
def direct(url: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection of somebody else."""
    parts = make_url(url)
    with psycopg.connect(host=parts.query["host"], user=parts.username, dbname=parts.database, autocommit=True) as made:
        yield made


@contextmanager
def lock_held(url: str) -> Iterator[Callable[[int], None]]:
    """Hold the writers' lock; gives what waits until so many others wait for it."""
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    with direct(url) as holder, direct(url) as looking:
        holder.execute(f"SELECT pg_advisory_lock({WRITERS_LOCK})")
        yield lambda count: wait_until(
            lambda: looking.execute(waiting).fetchone() == (count,), f"{count} wait for the lock"
        )


class Host:
    """A host's writer."""

    def __init__(self, url: str, name: str) -> None:
        self.engine = open_for_writing(url, host=name)
        self.failures: list[BaseException] = []

    def begin(self, work: Callable[[], object]) -> threading.Thread:
        """Do something that may have to wait."""

        def run() -> None:
            try:
                while not self._has_done(work):
                    pass
            except BaseException as failure:  # noqa: BLE001
                self.failures.append(failure)

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    def _has_done(self, work: Callable[[], object]) -> bool:
        """Do it; a writer that has waited too long for the others tries again."""
        try:
            work()
        except DBAPIError as error:
            if not is_lock_timeout(error):
                raise
            return False
        return True


@pytest.fixture
def hosts(postgresql_url: str) -> Iterator[tuple[Host, Host]]:
    pair = Host(postgresql_url, "north"), Host(postgresql_url, "south")
    yield pair
    for host in pair:
        host.engine.dispose()


def report(engine: Engine, uid: str, status: str, *, operation: str = "set") -> MppsAnswer:
    attributes: dict[str, Any] = {"00400252": {"vr": "CS", "Value": [status]}}
    if operation == "create":
        attributes |= {
            "00400244": {"vr": "DA", "Value": ["20300701"]},
            "00400245": {"vr": "TM", "Value": ["093000"]},
            "00400253": {"vr": "SH", "Value": ["PPS1"]},
            "00400241": {"vr": "AE", "Value": ["MR1"]},
            "00080060": {"vr": "CS", "Value": ["MR"]},
            "00100020": {"vr": "LO", "Value": ["P1"]},
        }
    else:
        attributes |= {
            "00400250": {"vr": "DA", "Value": ["20300701"]},
            "00400251": {"vr": "TM", "Value": ["110000"]},
        }
    request = MppsRequest(
        request_id=f"{id(engine)}{operation}{status}", operation=operation, scanner="MR1", sop_instance_uid=uid,
        attributes=attributes,
    )  # fmt: skip
    return record_report(engine, request, RULES, strict=False, now=NOW, today="20300701")


def test_two_first_starts_at_once_both_come_up(postgresql_url: str, hosts: tuple[Host, Host]) -> None:
    with lock_held(postgresql_url) as wait_for:
        threads = [host.begin(lambda host=host: prepare_database(host.engine)) for host in hosts]
        wait_for(2)
    for thread in threads:
        thread.join(30)
    assert [host.failures for host in hosts] == [[], []]
    with direct(postgresql_url) as looking:
        assert looking.execute("SELECT count(*) FROM worklist_items").fetchone() == (0,)


def test_two_upgrades_at_once_both_come_up(postgresql_url: str, hosts: tuple[Host, Host]) -> None:
    prepare_database(hosts[0].engine)
    with direct(postgresql_url) as looking:
        looking.execute("ALTER TABLE audit_log DROP COLUMN host")
    with lock_held(postgresql_url) as wait_for:
        threads = [host.begin(lambda host=host: prepare_database(host.engine)) for host in hosts]
        wait_for(2)
    for thread in threads:
        thread.join(30)
    assert [host.failures for host in hosts] == [[], []]


def test_a_report_waits_for_another_hosts_transaction_and_keeps_its_item(
    postgresql_url: str, hosts: tuple[Host, Host]
) -> None:
    north, south = hosts
    prepare_database(north.engine)
    clinic = Feed(north.engine, "ris")
    clinic.sync(record("r1", "P1", modality="MR"))
    assert report(south.engine, "2.25.1", "IN PROGRESS", operation="create").status == 0
    with lock_held(postgresql_url) as wait_for:
        done = south.begin(lambda: report(south.engine, "2.25.1", "COMPLETED"))
        gone = north.begin(lambda: clinic.sync(record("r2", "P2", modality="MR")))
        wait_for(2)
    done.join(30)
    gone.join(30)
    assert (north.failures, south.failures) == ([], [])
    statuses = {one["patient_id"]: one["performed_procedure_step_status"] for one in rows(north.engine, worklist_items)}
    assert statuses == {"P1": "COMPLETED", "P2": "SCHEDULED"}


def test_reading_does_not_wait_for_another_writer(postgresql_url: str, hosts: tuple[Host, Host]) -> None:
    prepare_database(hosts[0].engine)
    with lock_held(postgresql_url):
        assert Feed(hosts[0].engine, "ris").ingest.find_last_success() is None


@pytest.mark.parametrize("first", [0, 1])
def test_one_of_two_ends_at_once_counts(hosts: tuple[Host, Host], first: int) -> None:
    prepare_database(hosts[0].engine)
    assert report(hosts[0].engine, "2.25.1", "IN PROGRESS", operation="create").status == 0
    assert report(hosts[1].engine, "2.25.1", "IN PROGRESS", operation="create").status == 0x0111
    answers: dict[int, MppsAnswer] = {}
    statuses = ("COMPLETED", "DISCONTINUED")

    def end(place: int) -> None:
        answers[place] = report(hosts[place].engine, "2.25.1", statuses[place])

    threads = [hosts[place].begin(lambda place=place: end(place)) for place in (first, 1 - first)]
    for thread in threads:
        thread.join(30)
    told = sorted((answer.status, answer.error_id) for answer in answers.values())
    assert told == [(0, None), (0x0110, 0xA710)]


def test_the_audit_log_names_the_host(hosts: tuple[Host, Host]) -> None:
    north, south = hosts
    prepare_database(north.engine)
    Feed(north.engine, "ris").sync(record("r1", "P1", modality="MR"))
    report(south.engine, "2.25.1", "IN PROGRESS", operation="create")
    told = [(line["actor"], line["host"]) for line in rows(north.engine, audit_log)]
    assert told == [("source:ris", "north"), ("scanner:MR1", "south")]


@pytest.mark.parametrize(("default", "used"), [("off", "on"), ("local", "on"), ("remote_apply", "remote_apply")])
def test_what_others_rely_on_is_durable_whatever_the_server_says(postgresql_url: str, default: str, used: str) -> None:
    with direct(postgresql_url) as connection:
        name = connection.info.dbname
        connection.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = {default}')  # type: ignore[arg-type]
    engine = open_for_writing(postgresql_url)
    with transaction(engine) as connection_:
        assert connection_.scalar(text("SHOW synchronous_commit")) == used
    with transaction(engine, durable=False) as connection_:
        assert connection_.scalar(text("SHOW synchronous_commit")) == default
    engine.dispose()


def test_a_frozen_transaction_does_not_keep_the_lock(postgresql_url: str, hosts: tuple[Host, Host]) -> None:
    prepare_database(hosts[0].engine)
    engine = open_for_writing(postgresql_url, idle_s=0.2)
    with pytest.raises(InternalError, match="idle-in-transaction"), engine.begin() as frozen:  # noqa: PT012
        frozen.execute(text("SELECT 1"))
        # Nothing more is asked, as if the process were stopped.
        Feed(hosts[0].engine, "ris").sync(record("r1", "P1", modality="MR"))
    engine.dispose()


def within_a_pipeline(connection: Connection) -> None:
    """The server waits for the rest of it, so its limit for idle transactions does not end that."""
    connection.execute(text("SELECT 1"))
    connection.execute(text("SET LOCAL work_mem = '1MB'"))


def without_reading(connection: Connection) -> None:
    """The server cannot get rid of its answer; no limit of its own ends that."""
    driver: Any = connection.connection.driver_connection
    driver.pgconn.send_query(b"SELECT repeat('x', 1000) FROM generate_series(1, 100000)")


@pytest.mark.parametrize("stop", [within_a_pipeline, without_reading])
def test_a_writer_that_stands_still_with_the_lock_loses_it(
    postgresql_url: str, stop: Callable[[Connection], None]
) -> None:
    """First nobody can have the lock, then the session is ended, then another writer commits, and this one never."""
    frozen, other = open_for_writing(postgresql_url, host="north"), open_for_writing(postgresql_url)
    prepare_database(frozen)
    held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted"
    inserted = insert(worklist_items).values(
        patient_id="P1", scheduled_start_date="20300101", scheduled_start_time="0900"
    )

    def look(limit_s: float) -> tuple[float, bool]:
        with reading(other) as connection:
            return look_at_holder(connection, limit_s)

    def stand_still() -> None:
        pipelined = stop is within_a_pipeline
        with direct(postgresql_url) as looking, transaction(frozen, pipelined=pipelined) as connection:
            connection.execute(inserted)
            stop(connection)
            wait_until(lambda: look(60)[0] > 0.3, "it lets the server wait")
            assert looking.execute(held).fetchone() == (1,)
            wait_until(lambda: look(0.3)[1], "its session is ended")
            wait_until(lambda: looking.execute(held).fetchone() == (0,), "the lock is free")
            with other.begin() as committing:
                assert committing.scalar(select(func.count()).select_from(worklist_items)) == 0

    with pytest.raises((DBAPIError, psycopg.Error)):
        stand_still()
    assert rows(other, worklist_items) == []
    assert look(0) == (0.0, False)
    for engine in (frozen, other):
        engine.dispose()
