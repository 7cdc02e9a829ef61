"""Records and items as the writer holds them in memory for one transaction, and how they are read and written.

A `Record` is a row of `source_entries`. Reading and writing is in bulk: a statement per chunk, never one per row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import ColumnElement, Connection, bindparam, case, func, select

from pylantir.entry import RECORD_FIELDS
from pylantir.store.decide.claims import STUDY_UID, Item, Rules
from pylantir.store.intake.bulk import select_among
from pylantir.store.schema.tables import audit_log, source_entries, worklist_items

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


@dataclass(slots=True)
class Record:
    """A row of `source_entries`; `fields` are those that the source gives, by name.

    `stored` is the row as it was read, None for a new one.
    """

    id: int
    data_source: str
    record_key: str
    state: str
    item_id: int | None
    first_seen_at: str
    changed_at: str
    withdrawn_at: str | None
    fields: Mapping[str, str]
    stored: tuple[object, ...] | None = None
    changed: bool = True

    @property
    def patient_id(self) -> str:
        """Whose it is."""
        return self.fields["patient_id"]

    def describe(self, fields: Mapping[str, str], now: str) -> None:
        """Take over what the source says now."""
        self.fields = fields
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
        return [(column, value) for column in IDENTIFIERS if (value := self.fields.get(column))]

    def row(self) -> dict[str, object]:
        """The row as the database takes it."""
        own = (
            self.id, self.data_source, self.record_key, self.state, self.item_id, self.first_seen_at, self.changed_at,
            self.withdrawn_at,
        )  # fmt: skip
        return dict(zip(_COLUMNS, (*own, *map(self.fields.get, RECORD_FIELDS)), strict=True))

    def changes(self) -> dict[str, object]:
        """What is to be changed of a stored row."""
        before = self.stored or (None,) * len(_COLUMNS)
        now = self.row().values()
        return {name: value for name, value, stored in zip(_COLUMNS, now, before, strict=True) if value != stored}


def chunks(values: Iterable[T]) -> Iterator[list[T]]:
    """Split into lists that fit one statement."""
    sequence = list(values)
    for start in range(0, len(sequence), CHUNK):
        yield sequence[start : start + CHUNK]


_RECORD_COLUMNS = (
    "id", "data_source", "record_key", "state", "item_id", "first_seen_at", "changed_at", "withdrawn_at",
)  # fmt: skip
_COLUMNS = (*_RECORD_COLUMNS, *RECORD_FIELDS)
_ITEM_COLUMNS = tuple(column.name for column in worklist_items.columns)
_NEXT_IDS = select(
    select(func.coalesce(func.max(source_entries.c.id), 0) + 1).scalar_subquery(),
    select(func.coalesce(func.max(worklist_items.c.id), 0) + 1).scalar_subquery(),
    # An item that was purged leaves its number in the audit log: it is not given to another patient's.
    select(func.coalesce(func.max(audit_log.c.item_id), 0) + 1).scalar_subquery(),
)


def read_records(connection: Connection, patients: Iterable[str]) -> Iterator[Record]:
    """The records of these patients, in every state."""
    own = len(_RECORD_COLUMNS)
    for row in select_among(connection, source_entries, _COLUMNS, "patient_id", patients):
        named = dict(zip(_RECORD_COLUMNS, row[:own], strict=True))
        yield Record(**named, fields=given_fields(row[own:]), stored=row, changed=False)


def read_items(connection: Connection, patients: Iterable[str]) -> Iterator[Item]:
    """The items of these patients, cancelled ones included."""
    for row in select_among(connection, worklist_items, _ITEM_COLUMNS, "patient_id", patients):
        yield Item(row[0], dict(zip(_ITEM_COLUMNS, row, strict=True)))


def given_fields(contents: Sequence[str | None]) -> dict[str, str]:
    """Name what a source says, without what it does not say.

    Args:
        contents: A value or None for each of `RECORD_FIELDS`.
    """
    return {name: value for name, value in zip(RECORD_FIELDS, contents, strict=True) if value}


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
    # Study UIDs of those items have an index of their own, and the others' have none.
    condition = "scanner_touched = 1" if column == STUDY_UID else ""
    wanted = (column, "patient_id", "scanner_touched")
    rows = select_among(connection, worklist_items, wanted, column, values, condition=condition)
    return {value: patient for value, patient, touched in rows if touched}
