"""Records and items as the writer holds them in memory for one transaction, and how they are read and written.

A `Record` is a row of `source_entries`. Reading and writing is in bulk: a statement per chunk, never one per row.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import ColumnElement, Connection, bindparam, case, func, select

from pylantir.store.claims import Item, Rules
from pylantir.store.tables import audit_log, source_entries, worklist_items

LIVE = "live"
"""The record counts."""
PENDING = "pending"
"""It has no identifier of its own and may be a moved one: it waits for the end of its snapshot."""
REFUSED = "refused"
"""It claims an accession number or study UID that belongs to another patient: quarantined."""
WITHDRAWN = "withdrawn"
"""The source no longer has it."""

IDENTIFIERS = ("accession_number", "study_instance_uid")
"""What can belong to one patient only."""

STEP_KEY = "step:"
"""How the key of a record begins that has no identifier of its own."""

CHUNK = 500
T = TypeVar("T")
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


@dataclass(slots=True)
class Record:
    """A row of `source_entries`, in the order of its columns; the last two say how it goes back."""

    id: int
    data_source: str
    record_key: str
    state: str
    digest: str
    fields: Mapping[str, str]
    patient_id: str
    accession_number: str | None
    study_instance_uid: str | None
    item_id: int | None
    first_seen_at: str
    changed_at: str
    withdrawn_at: str | None
    stored: bool = False
    changed: bool = True

    def describe(self, fields: Mapping[str, str], digest: str, now: str) -> None:
        """Take over what the source says now."""
        self.fields = fields
        self.digest = digest
        self.patient_id = fields["patient_id"]
        self.accession_number = fields.get("accession_number")
        self.study_instance_uid = fields.get("study_instance_uid")
        self.changed_at = now
        self.changed = True

    def enter(self, state: str, now: str) -> None:
        """Change the state, and remember the moment of a withdrawal."""
        if self.state != state:
            self.state = state
            self.withdrawn_at = now if state == WITHDRAWN else None
            self.changed = True

    def identifiers(self) -> list[tuple[str, str]]:
        """The (column, value) pairs that can belong to one patient only."""
        pairs = (("accession_number", self.accession_number), ("study_instance_uid", self.study_instance_uid))
        return [(column, value) for column, value in pairs if value]

    def row(self) -> dict[str, object]:
        """The row as the database takes it."""
        return {
            "id": self.id,
            "data_source": self.data_source,
            "record_key": self.record_key,
            "state": self.state,
            "digest": self.digest,
            "fields": _encode(self.fields),
            "patient_id": self.patient_id,
            "accession_number": self.accession_number,
            "study_instance_uid": self.study_instance_uid,
            "item_id": self.item_id,
            "first_seen_at": self.first_seen_at,
            "changed_at": self.changed_at,
            "withdrawn_at": self.withdrawn_at,
        }


def chunks(values: Iterable[T]) -> Iterator[list[T]]:
    """Split into lists that fit one statement."""
    sequence = list(values)
    for start in range(0, len(sequence), CHUNK):
        yield sequence[start : start + CHUNK]


_RECORDS = select(source_entries).where(source_entries.c.patient_id.in_(bindparam("patients", expanding=True)))
_ITEMS = select(worklist_items).where(worklist_items.c.patient_id.in_(bindparam("patients", expanding=True)))
_NEXT_IDS = select(
    select(func.coalesce(func.max(source_entries.c.id), 0) + 1).scalar_subquery(),
    select(func.coalesce(func.max(worklist_items.c.id), 0) + 1).scalar_subquery(),
    # An item that was purged leaves its number in the audit log: it is not given to another patient's.
    select(func.coalesce(func.max(audit_log.c.item_id), 0) + 1).scalar_subquery(),
)


def read_records(connection: Connection, patients: Iterable[str]) -> Iterator[Record]:
    """The records of these patients, in every state."""
    for chunk in chunks(patients):
        for row in connection.execute(_RECORDS, {"patients": chunk}).mappings():
            yield Record(**{**row, "fields": json.loads(row["fields"])}, stored=True, changed=False)


def read_items(connection: Connection, patients: Iterable[str]) -> Iterator[Item]:
    """The items of these patients, cancelled ones included."""
    for chunk in chunks(patients):
        for row in connection.execute(_ITEMS, {"patients": chunk}).mappings():
            yield Item(row["id"], dict(row))


def next_ids(connection: Connection) -> tuple[int, int]:
    """The next free ids of records and items; there is one writer, so nobody else takes them."""
    record_id, item_id, unaudited_id = connection.execute(_NEXT_IDS).one()
    return record_id, max(item_id, unaudited_id)


def find_best_holders(
    connection: Connection, column: str, values: Sequence[str], rules: Rules
) -> dict[str, tuple[int, str]]:
    """For each value of an identifier: (record id, patient ID) of the stored record with the highest priority."""
    table = source_entries.c

    def exact(name: str) -> ColumnElement[str]:
        # As Python sorts, not as the database's language does.
        return table[name].collate("C") if connection.dialect.name == "postgresql" else table[name]

    rank = case(dict(rules.ranks), value=table.data_source, else_=len(rules.ranks)) if rules.ranks else table.id
    best = (
        select(
            table[column].label("value"),
            table.id,
            table.patient_id,
            func.row_number()
            .over(partition_by=table[column], order_by=(rank, *(exact(name) for name in ("data_source", "record_key"))))
            .label("place"),
        )
        .where(table[column].in_(bindparam("values", expanding=True)), table.state.in_((LIVE, REFUSED)))
        .subquery()
    )
    statement = select(best.c.value, best.c.id, best.c.patient_id).where(best.c.place == 1)
    return {
        value: (record_id, patient)
        for chunk in chunks(values)
        for value, record_id, patient in connection.execute(statement, {"values": chunk})
    }


def find_holding_patients(
    connection: Connection, column: str, values: Sequence[str], states: Sequence[str]
) -> set[str]:
    """All patients under whom a stored record in one of the states claims one of the values."""
    table = source_entries.c
    claimed = table[column].in_(bindparam("values", expanding=True))
    statement = select(table.patient_id).distinct().where(claimed, table.state.in_(states))
    return {row[0] for chunk in chunks(values) for row in connection.execute(statement, {"values": chunk})}


def find_started_holders(connection: Connection, column: str, values: Sequence[str]) -> dict[str, str]:
    """For each value on an item that a scanner has reported on: the item's patient."""
    table = worklist_items.c
    statement = select(table[column], table.patient_id).where(
        table[column].in_(bindparam("values", expanding=True)), table.scanner_touched == 1
    )
    return {
        value: patient
        for chunk in chunks(values)
        for value, patient in connection.execute(statement, {"values": chunk})
    }
