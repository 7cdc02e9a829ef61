"""Finds in the database who holds accession numbers and study UIDs: records that claim them, and items that keep them.

Lives in the writer. It reads in bulk, as `records` does; `store.decide.identifiers` decides who owns a number.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from types import MappingProxyType

from sqlalchemy import ColumnElement, Connection, bindparam, case, func, select

from pylantir.entry import CANCELED, DISCONTINUED
from pylantir.store.decide.claims import STATUS, STUDY_UID, Item, Patient, Rules, may_be_generated
from pylantir.store.decide.evidence import ISSUER
from pylantir.store.decide.identifiers import Holder, Identifier, find_given_up, is_idle, keeps_identifier
from pylantir.store.decide.records import (
    IDENTIFIERS,
    LIVE,
    REFUSED,
    Record,
)
from pylantir.store.schema.bulk import RowTuple, ask_statement, chunks, select_among, select_among_new
from pylantir.store.schema.engine import is_pipelined
from pylantir.store.schema.tables import (
    NOT_LIVE,
    source_entries,
    worklist_items,
)

_HOLDING = (
    "id", "patient_id", ISSUER, "data_source", STATUS, "exam_ended_on", "scheduled_start_date",
    "scanner_touched",
)  # fmt: skip
_STATUS_PLACE = 1 + _HOLDING.index(STATUS)


def _ask_best_holders(
    connection: Connection, column: str, values: Sequence[str], rules: Rules
) -> Callable[[], dict[str, tuple[int, str, bool]]]:
    """Ask for the stored record with the highest priority for each value of an identifier.

    Returns:
        What reads value -> (record id, patient ID, whether live records of several patients have the value).
    """
    table = source_entries.c

    def exact(name: str) -> ColumnElement[str]:
        # As Python sorts, not as the database's language does.
        return table[name].collate("C") if connection.dialect.name == "postgresql" else table[name]

    rank = case(dict(rules.ranks), value=table.data_source, else_=len(rules.ranks)) if rules.ranks else table.id
    live = case((table.state == LIVE, table.patient_id))
    first, last = (func.min(live), func.max(live))
    best = (
        select(
            table[column].label("value"),
            table.id,
            table.patient_id,
            func.row_number()
            .over(partition_by=table[column], order_by=(rank, *(exact(name) for name in ("data_source", "record_key"))))
            .label("place"),
            (first.over(partition_by=table[column]) != last.over(partition_by=table[column])).label("shared"),
        )
        .where(table[column].in_(bindparam("values", expanding=True)), table.state.in_((LIVE, REFUSED)))
        .subquery()
    )
    statement = select(best.c.value, best.c.id, best.c.patient_id, best.c.shared).where(best.c.place == 1)
    asked = [ask_statement(connection, statement, {"values": chunk}) for chunk in chunks(values)]
    return lambda: {value: (number, patient, bool(shared)) for rows in asked for value, number, patient, shared in rows}


def find_holding_patients(
    connection: Connection, column: str, values: Sequence[str], states: Sequence[str]
) -> set[str]:
    """Return the patients of the stored records that claim one of the values and are in one of the states."""
    among = ", ".join(f"'{state}'" for state in states)
    found = select_among(
        connection, source_entries, ("patient_id",), column, values, condition=f"state IN ({among})", distinct=True
    )
    return {patient for (patient,) in found}


def ask_holding_items(
    connection: Connection,
    column: str,
    values: Sequence[str],
    today: str,
    records: Mapping[int, Record] = MappingProxyType({}),
    given_up: Set[int] = frozenset(),
) -> Callable[[], dict[str, Holder]]:
    """Ask which items keep these values, because a scanner has reported on the item or Pylantir generated the value.

    Args:
        connection: Any.
        column: Of `IDENTIFIERS`.
        values: The values to look for.
        today: YYYYMMDD.
        records: Records in memory, by id; they may have changed since they were read.
        given_up: Items that keep nothing because this transaction cancels them.

    Returns:
        What reads value -> the item that keeps it.
    """
    # Study UIDs of those items have an index of their own, and the others' have none.
    wanted = (column, *_HOLDING)
    made: list[str] = []
    if column == STUDY_UID:
        rows = select_among(connection, worklist_items, wanted, column, values, condition="scanner_touched = 1")
        # A source may supply a UID that Pylantir has generated. Without an index, so only if it looks like one.
        made = [value for value in values if may_be_generated(value)]
    else:
        rows = select_among_new(connection, worklist_items, wanted, column, values)
    generated = _ask_generated(connection, made) if made else dict
    # Where asking costs a round trip, it is done beforehand.
    early = _ask_given(connection, column, values) if is_pipelined(connection) else None

    def read() -> dict[str, Holder]:
        touched = [row for row in rows if row[-1] and row[1] not in given_up]
        stored: Iterable[RowTuple] = early or ()
        if touched and early is None:
            stored = _ask_given(connection, column, [row[0] for row in touched])
        given = {(item, value) for number, item, value in stored if number not in records}
        if touched:
            given |= {(one.item_id, one.fields.get(column)) for one in records.values() if one.state == LIVE}
        holders = {}
        # Of two exams under one number, one that was not broken off comes last and counts: it follows no corrected ID.
        for value, item_id, patient, issuer, source, status, ended_on, scheduled_on, _ in sorted(
            touched, key=lambda row: row[_STATUS_PLACE] != DISCONTINUED
        ):
            is_given = (item_id, value) in given
            if keeps_identifier(
                column, status, given=is_given, ended_on=ended_on, scheduled_on=scheduled_on, today=today
            ):
                identity = {"patient_id": patient, ISSUER: issuer}
                holders[value] = Holder(patient=identity, item_id=item_id, data_source=source or "", started=True)
        return {**generated(), **holders}

    return read


def _ask_generated(connection: Connection, uids: Sequence[str]) -> Callable[[], dict[str, Holder]]:
    """Return what reads UID -> the item for which it was generated and that is not cancelled."""
    columns = ("generated_study_uid", "id", "patient_id", ISSUER, "data_source")
    rows = select_among(connection, worklist_items, columns, columns[0], uids, condition=f"{STATUS} <> '{CANCELED}'")
    return lambda: {
        uid: Holder(
            patient={"patient_id": patient, ISSUER: issuer}, item_id=item_id,
            data_source=source or "", started=True,
        )
        for uid, item_id, patient, issuer, source in rows
    }  # fmt: skip


def ask_supplied(
    connection: Connection, uids: Collection[str], records: Mapping[int, Record] = MappingProxyType({})
) -> Callable[[], Mapping[str, Set[Patient]]]:
    """Ask for the study UIDs that a live record supplies or that a scanner has used.

    Args:
        connection: In a transaction.
        uids: The UIDs to look for.
        records: Records in memory, by id; they may have changed since they were read.

    Returns:
        What reads them: UID -> patient IDs, each with the issuer or None.
    """
    values = list(uids)
    columns = (STUDY_UID, "patient_id", ISSUER)
    claimed = select_among_new(connection, source_entries, (*columns, "id", "state"), STUDY_UID, values)
    used = select_among(connection, worklist_items, columns, STUDY_UID, values, condition="scanner_touched = 1")

    def read() -> Mapping[str, Set[Patient]]:
        found: defaultdict[str, set[Patient]] = defaultdict(set)
        for uid, *patient, number, state in claimed:
            if state == LIVE and number not in records:
                found[uid].add(Patient(*patient))
        for record in records.values():
            if record.state == LIVE and record.fields.get(STUDY_UID) in uids:
                found[record.fields[STUDY_UID]].add(Patient(record.patient_id, record.fields.get(ISSUER)))
        for uid, *patient in used:
            found[uid].add(Patient(*patient))
        return found

    return read


def ask_moved(connection: Connection, uids: Collection[str]) -> Iterable[RowTuple]:
    """Ask for the items that have some of these generated study UIDs and have moved to another patient ID.

    The record from which the UID was generated may begin another item of the former patient.

    Returns:
        (UID, item, patient ID, issuer); others whose study UID has changed may be among them.
    """
    columns = ("generated_study_uid", "id", "patient_id", ISSUER)
    moved = "former_study_uids IS NOT NULL"
    return select_among(connection, worklist_items, columns, columns[0], list(uids), condition=moved)


def _ask_given(connection: Connection, column: str, values: Sequence[str]) -> Iterable[RowTuple]:
    """Ask for (record, item, value) of the live records that claim one of the values."""
    wanted = ("id", "item_id", column)
    return select_among(connection, source_entries, wanted, column, values, condition=f"state = '{LIVE}'")


def find_refused_identifiers(connection: Connection, source: str) -> set[Identifier]:
    """Return the identifiers of a source's refused records."""
    table = source_entries.c
    refused = (table.data_source == source, NOT_LIVE, table.state == REFUSED)
    asked = [
        (
            column,
            ask_statement(connection, select(table[column]).where(*refused, table[column].is_not(None)).distinct()),
        )
        for column in IDENTIFIERS
    ]
    return {(column, value) for column, rows in asked for (value,) in rows}


def load_claimants(
    connection: Connection,
    records: Mapping[int, Record],
    items: Callable[[], Mapping[int, Item]],
    load: Callable[[Iterable[str]], None],
    rules: Rules,
    identifiers: Collection[Identifier],
    today: str,
) -> dict[Identifier, Holder]:
    """Bring everybody who may win or lose an identifier into memory.

    Records that stay refused whoever wins are left alone: a default value in a column must not load the whole table.

    Args:
        connection: In a transaction.
        records: The records in memory; `load` adds to them.
        items: Returns the items in memory.
        load: Reads the records of patients.
        rules: The order of priority.
        identifiers: The identifiers in question.
        today: YYYYMMDD.

    Returns:
        What the items keep that a scanner has reported on.
    """
    started: dict[Identifier, Holder] = {}
    asked = []
    given_up = find_given_up(items().values(), records.values())
    for column in IDENTIFIERS:
        values = [value for name, value in identifiers if name == column]
        if values:
            keeping = ask_holding_items(connection, column, values, today, records, given_up)
            asked.append((column, keeping, _ask_best_holders(connection, column, values, rules)))
    answers = [(column, keeping(), ask_best()) for column, keeping, ask_best in asked]
    load(patient for _, _, best in answers for _, patient, _ in best.values())
    loaded = items()
    for column, kept, best in answers:
        started |= {(column, value): holder for value, holder in kept.items()}
        freed = [
            value for value, (number, _, shared) in best.items()
            # An exam that an operator has cancelled claims nothing, but it may be open again.
            if shared
            or not _claims(records[number], column, value)
            # Whoever was refused because of an item that keeps the number no longer comes in.
            or records[number].state == REFUSED
            or is_idle(records[number], loaded)
        ]  # fmt: skip
        if freed:
            load(find_holding_patients(connection, column, freed, (LIVE, REFUSED)))
    load(str(holder.patient["patient_id"]) for holder in started.values())
    return started


def _claims(record: Record, column: str, value: str) -> bool:
    return record.fields.get(column) == value and record.state in (LIVE, REFUSED)
