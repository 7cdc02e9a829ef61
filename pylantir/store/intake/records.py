"""Reads records and items of many patients into memory, and finds who holds an identifier. Lives in the writer.

It reads in bulk: a statement per chunk, never one per row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from sqlalchemy import ColumnElement, Connection, bindparam, case, func, select

from pylantir.entry import CANCELED
from pylantir.store.decide.claims import STATUS, STUDY_UID, Item, Rules
from pylantir.store.decide.records import LIVE, RECORD_COLUMNS, REFUSED, STORED_COLUMNS, Record, given_fields
from pylantir.store.schema.bulk import select_among, select_among_new
from pylantir.store.schema.tables import audit_log, source_entries, worklist_items

CHUNK = 500
T = TypeVar("T")


def chunks(values: Iterable[T]) -> Iterator[list[T]]:
    """Split into lists that fit one statement."""
    sequence = list(values)
    for start in range(0, len(sequence), CHUNK):
        yield sequence[start : start + CHUNK]


_ITEM_COLUMNS = tuple(column.name for column in worklist_items.columns)
_NEXT_IDS = select(
    select(func.coalesce(func.max(source_entries.c.id), 0) + 1).scalar_subquery(),
    select(func.coalesce(func.max(worklist_items.c.id), 0) + 1).scalar_subquery(),
    # An item that was purged leaves its number in the audit log: it is not given to another patient's.
    select(func.coalesce(func.max(audit_log.c.item_id), 0) + 1).scalar_subquery(),
)


def read_records(connection: Connection, patients: Iterable[str]) -> Iterator[Record]:
    """The records of these patients, in every state."""
    own = len(RECORD_COLUMNS)
    for row in select_among(connection, source_entries, STORED_COLUMNS, "patient_id", patients):
        named = dict(zip(RECORD_COLUMNS, row[:own], strict=True))
        yield Record(**named, fields=given_fields(row[own:]), stored=row, changed=False)


def read_items(connection: Connection, patients: Iterable[str]) -> Iterator[Item]:
    """The items of these patients, cancelled ones included."""
    for row in select_among(connection, worklist_items, _ITEM_COLUMNS, "patient_id", patients):
        yield Item(row[0], dict(zip(_ITEM_COLUMNS, row, strict=True)))


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
    """For each value on an item that a scanner has reported on: the item's patient. A cancelled one holds nothing."""
    # Study UIDs of those items have an index of their own, and the others' have none.
    wanted = (column, "patient_id", "scanner_touched", STATUS)
    if column == STUDY_UID:
        rows = select_among(connection, worklist_items, wanted, column, values, condition="scanner_touched = 1")
    else:
        rows = select_among_new(connection, worklist_items, wanted, column, values)
    return {value: patient for value, patient, touched, status in rows if touched and status != CANCELED}
