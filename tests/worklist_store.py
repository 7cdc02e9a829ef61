"""Feeding a real worklist database as source workers do, and looking at what became of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import tzinfo
from hashlib import blake2b
from typing import Any

from sqlalchemy import Connection, Engine, Table, event, insert, select, update

from pylantir.entry import SCHEDULED
from pylantir.ipc.cycles import CycleEnd, EntryBatch, Rejection
from pylantir.ipc.records import RecordColumns
from pylantir.mapping import EntryMapper
from pylantir.store.change.rules import Applied, follow_rules
from pylantir.store.clock import Clock, system_time, utc_now
from pylantir.store.decide.claims import STATUS, Rules
from pylantir.store.intake.cycle import SourceIngest
from pylantir.store.intake.state import CycleSummary
from pylantir.store.schema.tables import audit_log, rejected_entries, source_entries, sync_runs, worklist_items

RANKS = {"ris": 0, "redcap": 1, "csv": 2}
RULES = Rules(ranks=RANKS)


Record = tuple[str, dict[str, str]]
"""A record's key, and what its source says."""


def record(record_id: str | None = None, patient: str = "P1", **fields: str) -> Record:
    """A record as a source's worker makes it; without an ID of its own unless one is given."""
    whole = {"patient_id": patient, "scheduled_start_date": "20300701", "scheduled_start_time": "090000", **fields}
    if record_id is not None:
        whole["source_record_id"] = record_id
    entry = EntryMapper().to_entry(whole)
    return entry.record_key, dict(entry.fields)


def in_columns(records: Sequence[Record]) -> RecordColumns:
    """Records in the form of a batch."""
    names = dict.fromkeys(name for _, fields in records for name in fields)
    values = {name: [fields.get(name) for _, fields in records] for name in names}
    return RecordColumns([key for key, _ in records], values)


def said_in(records: RecordColumns) -> list[Record]:
    """The records of a batch, each by itself again; a key may come more than once."""
    return [(key, records.pick([place]).fields()[key]) for place, key in enumerate(records.keys)]


def name_of(records: Sequence[Record]) -> int:
    """Name a passage, as a worker does: equal names mean equal records."""
    said = repr([(key, sorted(fields.items())) for key, fields in records])
    return int.from_bytes(blake2b(said.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


PASSAGE_RECORDS = 2


class Feed:
    """One source and its place in the writer; as a worker does, it names what the last cycle has shown already.

    Attributes:
        known: Passages that need not be shown again, and what they stand for.
        shown: Those of the cycle under way.
    """

    def __init__(
        self,
        engine: Engine,
        name: str,
        rules: Rules = RULES,
        *,
        keep_missing: bool = False,
        seldom: bool = False,
        zone: tzinfo | None = None,
        clock: Clock = system_time,
    ) -> None:
        self.engine = engine
        self.name = name
        self.rules = rules
        self.options: dict[str, Any] = {"keep_missing": keep_missing, "seldom": seldom, "zone": zone, "clock": clock}
        self.clock = clock
        self.cycles = 0
        self.restart()

    def restart(self) -> None:
        """Another writer takes over."""
        self.known: dict[int, list[Record]] = {}
        self.shown: dict[int, list[Record]] = {}
        self.ingest = SourceIngest(self.engine, self.name, self.rules, **self.options)

    def batches(
        self,
        records: Sequence[Record],
        *,
        present: Sequence[str] = (),
        rejected: Sequence[Rejection] = (),
        snapshot: bool = True,
        size: int = 500,
    ) -> list[EntryBatch]:
        """The batches of a new cycle."""
        self.cycles += 1
        started_at, parts = utc_now(self.clock), [records[n : n + size] for n in range(0, len(records), size)]
        if (present or rejected) and not parts:
            parts = [[]]
        last = len(parts)
        known, self.known, self.shown = dict(self.known), {}, {}
        batches = []
        for seq, part in enumerate(parts, start=1):
            repeated, passages, whole = [], [], []
            for begin in range(0, len(part), PASSAGE_RECORDS):
                passage = list(part[begin : begin + PASSAGE_RECORDS])
                name = name_of(passage) if snapshot else None
                if name is not None:
                    self.shown[name] = passage
                if known.pop(name, None):
                    repeated.append(name)
                else:
                    passages.append((name, len(passage)))
                    whole += passage
            batches.append(
                EntryBatch(
                    cycle=f"{self.name}-{started_at}-{self.cycles}", seq=seq, started_at=started_at, snapshot=snapshot,
                    records=in_columns(whole), passages=passages, repeated=repeated,
                    present=present if seq == last else (), rejected=rejected if seq == last else (),
                )
            )  # fmt: skip
        return batches

    def apply(self, batch: EntryBatch) -> None:
        """Give a batch to the writer."""
        for name in self.ingest.apply_batch(batch):
            self.shown.pop(name, None)

    def finish(self, end: CycleEnd) -> CycleSummary:
        """End a cycle; what it has shown is known from now on."""
        summary = self.ingest.finish_cycle(end)
        self.known = self.shown if end.complete and end.error is None and not summary.forgotten else {}
        return summary

    def end(self, batches: Sequence[EntryBatch], *, complete: bool = True, error: str | None = None) -> CycleEnd:
        """The end of the cycle of these batches."""
        if not batches:
            now = utc_now(self.clock)
            self.cycles += 1
            name = f"empty-{now}-{self.cycles}"
            return CycleEnd(cycle=name, seq=1, started_at=now, complete=complete, error=error)
        last = batches[-1]
        return CycleEnd(cycle=last.cycle, seq=last.seq + 1, started_at=last.started_at, complete=complete, error=error)

    def sync(self, *records: Record, complete: bool = True, error: str | None = None, **parts: Any) -> CycleSummary:
        """A whole cycle."""
        batches = self.batches(records, **parts)
        for batch in batches:
            self.apply(batch)
        return self.finish(self.end(batches, complete=complete, error=error))


def apply_rules(engine: Engine, rules: Rules, *, clock: Clock = system_time) -> Applied:
    """Follow other rules, as a writer does that begins."""
    with engine.begin() as connection:
        return follow_rules(connection, rules, clock=clock)


def rows(engine: Engine, table: Table) -> list[dict[str, Any]]:
    """All rows of a table, in the order of their ids."""
    # The driver's own rows: the models read whole tables thousands of times.
    names = [column.name for column in table.columns]
    with engine.connect() as connection:
        found = connection.exec_driver_sql(f"SELECT {', '.join(names)} FROM {table.name} ORDER BY id").cursor
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def items(engine: Engine, **where: object) -> list[dict[str, Any]]:
    """The items, cancelled ones included, that have these values."""
    return [row for row in rows(engine, worklist_items) if where.items() <= row.items()]


def served(engine: Engine) -> list[tuple[str, str, str]]:
    """(patient, date, time) of all scheduled items, sorted."""
    return sorted(
        (one["patient_id"], one["scheduled_start_date"], one["scheduled_start_time"])
        for one in items(engine, **{STATUS: SCHEDULED})
    )


def claims(engine: Engine) -> dict[tuple[str, str], tuple[str, int | None]]:
    """(source, record key) -> (state, item)."""
    return {
        (one["data_source"], one["record_key"]): (one["state"], one["item_id"]) for one in rows(engine, source_entries)
    }


def quarantine(engine: Engine) -> dict[tuple[str, str], dict[str, Any]]:
    """(source, record key) -> row."""
    return {(one["data_source"], one["record_key"]): one for one in rows(engine, rejected_entries)}


def runs(engine: Engine) -> list[dict[str, Any]]:
    """The rows of `sync_runs`."""
    return rows(engine, sync_runs)


def report_from_scanner(engine: Engine, item_id: int, status: str, *, ended_on: str | None = None) -> None:
    """Do to an item what a scanner's report does, with its line in the audit log."""
    table = worklist_items
    with engine.begin() as connection:
        item = connection.execute(select(table).where(table.c.id == item_id)).mappings().one()
        connection.execute(
            update(table).where(table.c.id == item_id),
            {STATUS: status, "scanner_touched": 1, "exam_ended_on": ended_on},
        )
        note = {"at": utc_now(), "actor": "scanner:MR3", "action": "status", "item_id": item_id}
        note |= {"patient_id": item["patient_id"], "changes": json.dumps({STATUS: [item[STATUS], status]})}
        connection.execute(insert(audit_log), note)


NOT_REPLAYED = {
    "exam_ended_on",
    "id",
    "generated_study_uid",
    "scanner_touched",
    "former_study_uids",
    "created_at",
    "updated_at",
}


def check_audit(engine: Engine) -> None:
    """The audit log, followed back from the present items, leads to how each came into being, and no further."""
    values = {item["id"]: audited_values(item) for item in rows(engine, worklist_items)}
    unborn = set(values)
    for line in reversed(rows(engine, audit_log)):
        number = line["item_id"]
        if number is None or line["action"] == "purged":
            # An exam that belongs to no item; or what is left of a deleted item, which has no earlier line.
            continue
        assert number in unborn, line
        item = values.setdefault(number, {})
        unborn.add(number)
        for name, change in json.loads(line["changes"]).items():
            if isinstance(change, list) and name != "reason":
                before, after = change
                assert item.get(name) == after, (name, item.get(name), line)
                item[name] = before
        if line["action"] in {"created", "adopted"}:
            unborn.discard(number)
    assert not unborn


def audited_values(item: Mapping[str, Any]) -> dict[str, Any]:
    """What of an item the audit log must be able to tell."""
    return {name: value for name, value in item.items() if name not in NOT_REPLAYED and value is not None}


@contextmanager
def durable_commits(engine: Engine) -> Iterator[list[bool]]:
    """Note of each COMMIT whether a power cut would leave it; the server's default is that it would not."""
    commits: list[bool] = []
    ask = {"sqlite": "PRAGMA synchronous", "postgresql": "SHOW synchronous_commit"}[engine.dialect.name]

    def note(connection: Connection) -> None:
        commits.append(connection.exec_driver_sql(ask).scalar() in (2, "on"))

    if engine.dialect.name == "postgresql":
        with engine.connect() as connection:
            connection.exec_driver_sql(f'ALTER DATABASE "{engine.url.database}" SET synchronous_commit = off')
            connection.commit()
        engine.dispose()
    event.listen(engine, "commit", note)
    yield commits
    event.remove(engine, "commit", note)
