"""How Pylantir's store does with a million items of 200 sources on a PostgreSQL server, and what that costs the server.

Ratios are taken in alternation within one run, so that a busy machine matters less. The database sorts text as a
hospital's does (ICU), not by bytes.

    python -m benchmarks.scale [fill queries sync hosts purge] [--items 1000000] [--rows 20000] [--runs 5]
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import event

from pylantir.query import WorklistQuery
from pylantir.store.change.retention import purge_items
from pylantir.store.decide.claims import Rules
from pylantir.store.hosts.leases import take_leases
from pylantir.store.read.worklist import read_values
from pylantir.store.schema.engine import open_for_reading, open_for_writing
from pylantir.store.schema.upgrade import prepare_database

sys.path[:0] = [str(Path(__file__).parents[1] / "tests")]
from postgresql import run_server, search_path  # noqa: E402
from worklist_store import Feed, Record, record  # noqa: E402

SOURCES = 200
HOSTS = (1, 2, 4)
BATCH = 2400
DAYS = 300
OLD_DAY = "20200101"
_NAMES = [*(f"site{number:03d}" for number in range(SOURCES)), *(f"new{number}" for number in range(20))]
RULES = Rules(ranks={name: rank for rank, name in enumerate(_NAMES)})
_ITEMS = """
INSERT INTO worklist_items (id, patient_id, patient_name, patient_birth_date, patient_sex, accession_number, modality,
    scheduled_station_aetitle, scheduled_start_date, scheduled_start_time, procedure_description, protocol_name,
    scheduled_procedure_step_id, requested_procedure_id, study_instance_uid, generated_study_uid,
    performed_procedure_step_status, data_source, source_record_id, created_at, updated_at)
SELECT n, {prefix} || 'P' || n / 2, 'NAME' || n % 50000 || '^GIVEN' || n % 700, '19700101', 'F', {prefix} || 'A' || n,
    'MR', 'SCANNER' || n / 300 % 800, {day},
    lpad(((n % 36000 + 28800) / 3600)::text, 2, '0') || '0000', 'Brain', 'BRAIN_3T',
    n::text, n::text, '2.25.' || n, '2.25.' || n, 'SCHEDULED', 'site' || lpad((n / 2 % {sources})::text, 3, '0'),
    'R' || n, '2026-01-01T00:00:00.000000+00:00', '2026-01-01T00:00:00.000000+00:00'
FROM generate_series({first}, {last}) AS n"""
_ENTRIES = """
INSERT INTO source_entries (id, data_source, record_key, state, item_id, first_seen_at, changed_at, patient_id,
    patient_name, patient_birth_date, patient_sex, accession_number, modality, scheduled_station_aetitle,
    scheduled_start_date, scheduled_start_time, procedure_description, protocol_name, source_record_id)
SELECT id, data_source, 'id:' || source_record_id, '{state}', id, created_at, created_at, patient_id, patient_name,
    patient_birth_date, patient_sex, accession_number, modality, scheduled_station_aetitle, scheduled_start_date,
    scheduled_start_time, procedure_description, protocol_name, source_record_id
FROM worklist_items WHERE id BETWEEN {first} AND {last}"""
_AUDIT = """
INSERT INTO audit_log (at, actor, action, item_id, patient_id, changes)
SELECT created_at, 'source:' || data_source, 'created', id, patient_id, '{{}}'
FROM worklist_items WHERE id BETWEEN {first} AND {last}"""


class Database:
    """A PostgreSQL database, reached by SQLAlchemy and by psycopg."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        with psycopg.connect(host=folder, user="pylantir", dbname="postgres", autocommit=True) as connection:
            connection.execute("CREATE DATABASE scale TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US'")
        self.url = f"postgresql+psycopg://pylantir@/scale?host={folder}"
        self.engine = open_for_writing(self.url, host="bench")
        prepare_database(self.engine)

    def connect(self) -> psycopg.Connection[Any]:
        """Connect without Pylantir's own code."""
        return psycopg.connect(host=self._folder, user="pylantir", dbname="scale")

    def last_item(self) -> int:
        """Return the highest id of an item."""
        with self.connect() as connection:
            return int(str((connection.execute("SELECT max(id) FROM worklist_items").fetchone() or (0,))[0]))

    def fill(self, first: int, last: int, *, day: str, state: str = "live", prefix: str = "''") -> None:
        """Write items, their records and their audit lines, as so many syncs leave them."""
        values = {
            "first": first, "last": last, "sources": SOURCES, "state": state, "prefix": prefix, "day": day,
        }  # fmt: skip
        with self.connect() as connection:
            for statement in (_ITEMS, _ENTRIES, _AUDIT):
                connection.execute(statement.format(**values))
            connection.commit()
            connection.autocommit = True
            for table in ("worklist_items", "source_entries", "audit_log"):
                connection.execute(f"VACUUM ANALYZE {table}")  # type: ignore[arg-type]


@contextmanager
def database() -> Iterator[Database]:
    """A server of its own, with the settings of a small real one."""
    real = "-c fsync=on -c synchronous_commit=on -c full_page_writes=on -c shared_buffers=512MB -c max_wal_size=4GB"
    with run_server(search_path(), options=real) as folder:
        made = Database(folder)
        yield made
        made.engine.dispose()


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def measure_queries(base: Database, items: int) -> None:
    """Time a scanner's three questions at this size, and see which index answers them."""
    reader = open_for_reading(base.url)
    last: dict[str, Any] = {}
    asked = {
        "one day and station": lambda n: WorklistQuery(
            equal={"scheduled_station_aetitle": (f"SCANNER{n * 7 % 800}",)},
            ranges={"scheduled_start_date": (f"2030{1 + n % 10:02d}15", f"2030{1 + n % 10:02d}15")},
        ),
        "patient ID": lambda n: WorklistQuery(equal={"patient_id": (f"P{n * 7919 % (items // 2)}",)}),
        "beginning of a name": lambda n: WorklistQuery(like={"patient_name": f"name{n * 211 % 50000}^g*"}),
    }

    @event.listens_for(reader, "before_cursor_execute")
    def note(_connection: object, _cursor: object, statement: str, parameters: object, *_: object) -> None:
        if statement.startswith("SELECT"):
            last.update(statement=statement, parameters=parameters)

    for name, make in asked.items():
        seconds, answers = [], 0
        for number in range(60):
            query = make(number)
            began = time.perf_counter()
            answers = sum(len(rows) for rows in read_values(reader, query, ["patient_id", "patient_name"]))
            seconds.append(time.perf_counter() - began)
        with base.connect() as connection:
            plan = connection.execute(f"EXPLAIN {last['statement']}", last["parameters"])
            explained = [str(line).strip() for (line,) in plan if "Scan" in str(line)]
        worst = sorted(seconds)[int(0.95 * len(seconds))]
        print(
            f"{items} items, {name}: median {1000 * statistics.median(seconds):.1f} ms, "
            f"19 of 20 within {1000 * worst:.1f} ms, {answers} answers; {'; '.join(explained)}",
            flush=True,
        )
    reader.dispose()


def new_records(rows: int, prefix: str) -> list[Record]:
    return [
        record(
            f"R{number}", patient=f"{prefix}{number // 2}",
            patient_name=f"Name{number // 2 % 5000}^Given{number // 2 % 700}", patient_birth_date="19700101",
            accession_number=f"{prefix}A{number}", modality="MR",
            scheduled_start_date=f"2031{1 + number // 2800 % 12:02d}{1 + number // 100 % 28:02d}",
            scheduled_station_aetitle=f"SCANNER{number % 8}", protocol_name="BRAIN_3T",
        )
        for number in range(rows)
    ]  # fmt: skip


def seconds_of_cycle(feed: Feed, records: list[Record]) -> float:
    """Time a cycle that shows these records; what the worker does before is not counted."""
    batches = feed.batches(records, size=BATCH)
    began = time.perf_counter()
    for one in batches:
        feed.apply(one)
    feed.finish(feed.end(batches))
    return time.perf_counter() - began


def write_plainly(base: Database, seconds_of: list[float], written: tuple[int, int]) -> None:
    """Write the rows that a sync has just written once more with executemany, in batches as large."""
    first, last = written
    tables = {"worklist_items": "id", "source_entries": "item_id", "audit_log": "item_id"}
    with base.connect() as connection:
        rows: dict[str, list[tuple[object, ...]]] = {}
        inserts = {}
        for table, number in tables.items():
            found = connection.execute(f"SELECT * FROM {table} WHERE {number} BETWEEN {first} AND {last}")
            names = [column.name for column in found.description or ()]
            kept = [place for place, name in enumerate(names) if (table, name) != ("audit_log", "id")]
            rows[table] = [tuple(row[place] for place in kept) for row in found]
            marks = ", ".join(["%s"] * len(kept))
            inserts[table] = f"INSERT INTO {table} ({', '.join(names[place] for place in kept)}) VALUES ({marks})"
        connection.execute("ALTER TABLE audit_log DISABLE TRIGGER USER")
        for table, number in reversed(tables.items()):
            connection.execute(f"DELETE FROM {table} WHERE {number} BETWEEN {first} AND {last}")
        connection.execute("ALTER TABLE audit_log ENABLE TRIGGER USER")
        connection.commit()

        def write() -> None:
            for start in range(0, len(rows["worklist_items"]), BATCH):
                with connection.cursor() as cursor:
                    for table, statement in inserts.items():
                        cursor.executemany(statement, rows[table][start : start + BATCH])  # type: ignore[arg-type]
                connection.commit()

        seconds_of.append(timed(write))


def measure_sync(base: Database, rows: int, runs: int) -> None:
    """Time a first sync, the same rows again, and executemany of the same rows into the same tables, in turn."""
    first, unchanged, compared, plain = [], [], [], []
    for run in range(runs):
        records = new_records(rows, f"N{run}")
        feed = Feed(base.engine, f"new{run}", RULES)
        before = base.last_item()
        first.append(seconds_of_cycle(feed, records))
        unchanged.append(seconds_of_cycle(feed, records))
        feed.restart()
        compared.append(seconds_of_cycle(feed, records))
        write_plainly(base, plain, (before + 1, before + rows))
    for name, seconds in (("first sync", first), ("unchanged", unchanged), ("unchanged, after a restart", compared)):
        ratios = [one / other for one, other in zip(seconds, plain, strict=True)]
        print(
            f"{rows} rows, {name}: {statistics.median(seconds):.2f} s, {statistics.median(ratios):.2f} of executemany "
            f"({statistics.median(plain):.2f} s; ratios {', '.join(f'{one:.2f}' for one in ratios)})",
            flush=True,
        )


def run_host(url: str, name: str, sources: list[str], rows: int, barrier: object, told: object) -> None:
    """Be one host: sync each of its sources twice, the second time unchanged."""
    engine = open_for_writing(url, host=name)
    feeds = []
    with engine.begin() as connection:
        tenures = take_leases(connection, sources, name, name)
    for source in sources:
        feed = Feed(engine, source, RULES)
        feed.options["tenure"] = tenures[source]
        feed.restart()
        feeds.append((feed, new_records(rows, source)))
    barrier.wait()  # type: ignore[attr-defined]
    began = time.perf_counter()
    for feed, records in feeds:
        feed.sync(*records, snapshot=False)
    inserted = time.perf_counter()
    for feed, records in feeds:
        feed.sync(*records, snapshot=False)
    told.put((inserted - began, time.perf_counter() - inserted))  # type: ignore[attr-defined]
    engine.dispose()


def measure_hosts(base: Database) -> None:
    """Let 200 sources be fetched by one, two and four hosts."""
    context = multiprocessing.get_context("spawn")
    rows = 25
    for hosts in HOSTS:
        names = [f"h{hosts}-{number}" for number in range(SOURCES)]
        barrier, told = context.Barrier(hosts + 1), context.Queue()
        children = [
            context.Process(target=run_host, args=(base.url, f"host{n}", names[n::hosts], rows, barrier, told))
            for n in range(hosts)
        ]
        for child in children:
            child.start()
        barrier.wait()
        with base.connect() as connection:
            (used,) = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pylantir host%'"
            ).fetchone() or (0,)
        results = [told.get() for _ in children]
        for child in children:
            child.join()
        first, again = (max(one[place] for one in results) for place in (0, 1))
        print(
            f"{hosts} hosts, {SOURCES} sources of {rows} rows: first {first:.1f} s ({SOURCES * rows / first:.0f} rows "
            f"a second), again {again:.1f} s ({SOURCES / again:.0f} cycles a second), {used} connections to write",
            flush=True,
        )


def measure_purge(base: Database, first: int, count: int) -> None:
    """Purge so many items of past days that no source gives any more, and see how long each portion takes."""
    base.fill(first, first + count - 1, day=f"'{OLD_DAY}'", state="withdrawn", prefix="'O'")
    portions: list[float] = []
    steps = purge_items(base.engine, "20210101", RULES)
    said = ""
    while not said:
        began = time.perf_counter()
        try:
            next(steps)
        except StopIteration as end:
            said = str(end.value)
        portions.append(time.perf_counter() - began)
    print(f"{said}: {sum(portions):.1f} s in {len(portions)} portions, the longest {max(portions):.2f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", default=["queries", "sync", "hosts", "purge"], metavar="SECTION")
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--purge", type=int, default=300_000)
    options = parser.parse_args()
    with database() as base:
        day = f"to_char(date '2030-01-01' + (n % {DAYS})::int, 'YYYYMMDD')"
        seconds = timed(lambda: base.fill(1, options.items, day=day))
        print(f"{options.items} items of {SOURCES} sources written in {seconds:.0f} s", flush=True)
        if "queries" in options.sections:
            measure_queries(base, options.items)
        if "sync" in options.sections:
            measure_sync(base, options.rows, options.runs)
        if "hosts" in options.sections:
            measure_hosts(base)
        if "purge" in options.sections:
            measure_purge(base, 10 * options.items, options.purge)


if __name__ == "__main__":
    main()
