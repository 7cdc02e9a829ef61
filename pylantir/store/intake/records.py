"""Reads records and items of many patients, and finds the owners of identifiers. Lives in the writer.

It reads in bulk: one statement per chunk, never one per row.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from types import MappingProxyType

from sqlalchemy import ColumnElement, Connection, bindparam, case, func, select, update

from pylantir.entry import CANCELED
from pylantir.errors import RulesChanged
from pylantir.mpps.linking import read_clues
from pylantir.mpps.model import COMPLETED
from pylantir.store.decide.claims import STATUS, STUDY_UID, Item, Patient, Performed, Rules, may_be_generated
from pylantir.store.decide.evidence import ISSUER
from pylantir.store.decide.identifiers import Holder, Identifier, is_idle, keeps_identifier
from pylantir.store.decide.records import (
    IDENTIFIERS,
    LIVE,
    RECORD_COLUMNS,
    REFUSED,
    STORED_COLUMNS,
    Record,
    given_fields,
)
from pylantir.store.hosts.registry import VERSION_FACT
from pylantir.store.schema.bulk import chunks, select_among, select_among_new
from pylantir.store.schema.done_exams import find_done_exams
from pylantir.store.schema.tables import (
    NOT_LIVE,
    audit_log,
    mpps_instances,
    source_entries,
    store_facts,
    worklist_items,
)

_ITEM_COLUMNS = tuple(column.name for column in worklist_items.columns)
_NEXT_IDS = select(
    select(func.coalesce(func.max(source_entries.c.id), 0) + 1).scalar_subquery(),
    select(func.coalesce(func.max(worklist_items.c.id), 0) + 1).scalar_subquery(),
    # The audit log still names purged items, so their ids are never used again for another patient.
    select(func.coalesce(func.max(audit_log.c.item_id), 0) + 1).scalar_subquery(),
    select(store_facts.c.value).where(store_facts.c.name == VERSION_FACT).scalar_subquery(),
)


def read_records(connection: Connection, patients: Iterable[str]) -> Iterator[Record]:
    """Yield the records of these patients, in every state."""
    own = len(RECORD_COLUMNS)
    for row in select_among(connection, source_entries, STORED_COLUMNS, "patient_id", patients):
        named = dict(zip(RECORD_COLUMNS, row[:own], strict=True))
        yield Record(**named, fields=given_fields(row[own:]), stored=row, changed=False)


def read_items(connection: Connection, patients: Iterable[str]) -> Iterator[Item]:
    """Yield the items of these patients, including cancelled ones."""
    for row in select_among(connection, worklist_items, _ITEM_COLUMNS, "patient_id", patients):
        yield Item(row[0], dict(zip(_ITEM_COLUMNS, row, strict=True)))


def read_items_of(connection: Connection, item_ids: Iterable[int]) -> dict[int, Item]:
    """Items by their numbers, whosever they are."""
    rows = (
        row for chunk in chunks(item_ids)
        for row in connection.execute(select(worklist_items).where(worklist_items.c.id.in_(chunk))).mappings()
    )  # fmt: skip
    return {row["id"]: Item(row["id"], dict(row)) for row in rows}


def find_claiming_patients(connection: Connection, item_ids: Iterable[int]) -> list[tuple[int, str]]:
    """(item, patient ID) of the live records of some items; it looks at every record, so not for many items."""
    table = source_entries.c
    found = select(table.item_id, table.patient_id).where(table.state == LIVE).distinct()
    rows = (row for chunk in chunks(item_ids) for row in connection.execute(found.where(table.item_id.in_(chunk))))
    return [(item, patient) for item, patient in rows]


def find_performed(connection: Connection, patients: Iterable[str]) -> dict[str, list[Performed]]:
    """Return patient ID -> the steps of completed exams whose items are gone."""
    columns = ("patient_id", "sop_instance_uid", "item_ids", "updated_at")
    wanted = list(patients)
    found = select_among_new(connection, mpps_instances, columns, "patient_id", wanted)
    performed = {
        patient: [Performed(*exam) for exam in exams] for patient, exams in find_done_exams(connection, wanted).items()
    }
    for patient, uid, item_ids, updated_at in found:
        numbers = json.loads(item_ids)
        statement = select(mpps_instances.c.attributes).where(
            mpps_instances.c.sop_instance_uid == uid,
            mpps_instances.c.status == COMPLETED,
            ~select(worklist_items.c.id).where(worklist_items.c.id.in_(numbers)).exists(),
        )
        attributes = connection.scalar(statement) if numbers else None
        if attributes is not None:
            clues = read_clues(json.loads(attributes), updated_at[:10].replace("-", ""))
            # What is remembered of the item knows the issuer; the scanner need not have named it.
            known = {one.study_uid for one in performed.get(patient, ())} | {""}
            performed.setdefault(patient, []).extend(
                Performed(step.study_uid, step.accession_number, clues.day, clues.issuer)
                for step in clues.steps
                if step.study_uid not in known
            )
    return performed


def relink_reports(connection: Connection, patient: str, study_uid: str, item_id: int) -> None:
    """Tie the reports of a done exam to the item that it has again."""
    rows = connection.execute(
        select(mpps_instances.c.sop_instance_uid, mpps_instances.c.item_ids, mpps_instances.c.attributes).where(
            mpps_instances.c.patient_id == patient
        )
    ).all()
    for uid, item_ids, attributes in rows:
        if any(step.study_uid == study_uid for step in read_clues(json.loads(attributes), "").steps):
            numbers = json.dumps([*json.loads(item_ids), item_id])
            connection.execute(
                update(mpps_instances).where(mpps_instances.c.sop_instance_uid == uid), {"item_ids": numbers}
            )


def next_ids(connection: Connection, version: str | None = None) -> tuple[int, int]:
    """Return the next free ids of records and items; nobody else takes them while this transaction has the lock.

    Args:
        connection: In a writing transaction.
        version: The version of the rules by which its caller will decide (`Rules.version`).

    Raises:
        RulesChanged: The database has another version.
    """
    record_id, item_id, unaudited_id, present = connection.execute(_NEXT_IDS).one()
    if version not in (None, present):
        raise RulesChanged("the configuration of another host has just come into force; try again")
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


def find_holding_items(
    connection: Connection,
    column: str,
    values: Sequence[str],
    today: str,
    records: Mapping[int, Record] = MappingProxyType({}),
) -> dict[str, Holder]:
    """For each value that an item keeps, because a scanner has reported on it or Pylantir generated it: the item.

    Args:
        connection: Any.
        column: Of `IDENTIFIERS`.
        values: Whose holders are looked for.
        today: YYYYMMDD.
        records: Records in memory, by id; they may have changed since they were read.
    """
    # Study UIDs of those items have an index of their own, and the others' have none.
    wanted = (column, *_HOLDING)
    if column == STUDY_UID:
        rows = select_among(connection, worklist_items, wanted, column, values, condition="scanner_touched = 1")
    else:
        rows = select_among_new(connection, worklist_items, wanted, column, values)
    touched = [row for row in rows if row[-1]]
    given = _find_given(connection, column, [row[1] for row in touched], records) if touched else set()
    holders = {}
    for value, item_id, patient, issuer, source, status, ended_on, scheduled_on, _ in touched:
        if keeps_identifier(
            column, status, given=(item_id, value) in given, ended_on=ended_on, scheduled_on=scheduled_on, today=today
        ):
            identity = {"patient_id": patient, ISSUER: issuer}
            holders[value] = Holder(patient=identity, item_id=item_id, data_source=source or "", started=True)
    if column == STUDY_UID:
        # A source may supply a UID that Pylantir has generated. Without an index, so only if it looks like one.
        made = [value for value in values if value not in holders and may_be_generated(value)]
        holders |= _find_generated(connection, made) if made else {}
    return holders


def _find_generated(connection: Connection, uids: Sequence[str]) -> dict[str, Holder]:
    """Return UID -> the item for which it was generated and that is not cancelled."""
    columns = ("generated_study_uid", "id", "patient_id", ISSUER, "data_source")
    rows = select_among(connection, worklist_items, columns, columns[0], uids, condition=f"{STATUS} <> '{CANCELED}'")
    return {
        uid: Holder(
            patient={"patient_id": patient, ISSUER: issuer}, item_id=item_id,
            data_source=source or "", started=True,
        )
        for uid, item_id, patient, issuer, source in rows
    }  # fmt: skip


def has_supplied_uids(connection: Connection) -> bool:
    """Whether any stored study UID was not generated by Pylantir; indexes answer this."""
    return bool(connection.scalar(_ANY_SUPPLIED))


# As the least of them: an index answers that, but for EXISTS PostgreSQL expects so many that it reads the table.
_ANY_SUPPLIED = select(
    select(func.min(source_entries.c.study_instance_uid))
    .where(source_entries.c.study_instance_uid.is_not(None))
    .scalar_subquery()
    .is_not(None)
    | select(func.min(worklist_items.c.study_instance_uid))
    .where(worklist_items.c.study_instance_uid.is_distinct_from(worklist_items.c.generated_study_uid))
    .scalar_subquery()
    .is_not(None)
)


def find_supplied(
    connection: Connection, uids: Collection[str], records: Mapping[int, Record] = MappingProxyType({})
) -> Mapping[str, Set[Patient]]:
    """Find the study UIDs that a live record supplies or that a scanner has used.

    Args:
        connection: In a transaction.
        uids: The UIDs to look for.
        records: Records in memory, by id; they may have changed since they were read.

    Returns:
        UID -> patient IDs, each with the issuer or None.
    """
    found: defaultdict[str, set[Patient]] = defaultdict(set)
    columns, values = (STUDY_UID, "patient_id", ISSUER, "id", "state"), list(uids)
    for uid, *patient, number, state in select_among_new(connection, source_entries, columns, STUDY_UID, values):
        if state == LIVE and number not in records:
            found[uid].add(Patient(*patient))
    for record in records.values():
        if record.state == LIVE and record.fields.get(STUDY_UID) in uids:
            found[record.fields[STUDY_UID]].add(Patient(record.patient_id, record.fields.get(ISSUER)))
    used = (STUDY_UID, "patient_id", ISSUER)
    for uid, *patient in select_among(
        connection, worklist_items, used, STUDY_UID, values, condition="scanner_touched = 1"
    ):
        found[uid].add(Patient(*patient))
    return found


def _find_given(
    connection: Connection, column: str, item_ids: Sequence[int], records: Mapping[int, Record]
) -> set[tuple[int, str]]:
    """(item, value) of the live records of some items."""
    table = source_entries.c
    statement = select(table.id, table.item_id, table[column]).where(
        table.item_id.in_(bindparam("items", expanding=True)), table.state == LIVE, table[column].is_not(None)
    )
    given = {
        (item, value)
        for chunk in chunks(item_ids)
        for number, item, value in connection.execute(statement, {"items": chunk})
        if number not in records
    }
    for one in records.values():
        if one.state == LIVE and one.item_id is not None and one.item_id in item_ids and one.fields.get(column):
            given.add((one.item_id, one.fields[column]))
    return given


def find_refused_identifiers(connection: Connection, source: str) -> set[Identifier]:
    """The identifiers of a source's refused records."""
    table = source_entries.c
    refused = (table.data_source == source, NOT_LIVE, table.state == REFUSED)
    return {
        (column, value)
        for column in IDENTIFIERS
        for value in connection.scalars(select(table[column]).where(*refused, table[column].is_not(None)).distinct())
    }


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
        identifiers: Which.
        today: YYYYMMDD.

    Returns:
        What the items keep that a scanner has reported on.
    """
    started = {}
    for column in IDENTIFIERS:
        values = [value for name, value in identifiers if name == column]
        if not values:
            continue
        for value, holder in find_holding_items(connection, column, values, today, records).items():
            started[column, value] = holder
        best = find_best_holders(connection, column, values, rules)
        load(patient for _, patient in best.values())
        freed = [value for value, (number, _) in best.items() if not _claims(records[number], column, value)]
        # Whoever was refused because of an item that keeps the number no longer comes in.
        freed += [value for value, (number, _) in best.items() if records[number].state == REFUSED]
        loaded = items()
        freed += [value for value, (number, _) in best.items() if is_idle(records[number], loaded)]
        if freed:
            load(find_holding_patients(connection, column, freed, (LIVE, REFUSED)))
    load(str(holder.patient["patient_id"]) for holder in started.values())
    return started


def _claims(record: Record, column: str, value: str) -> bool:
    return record.fields.get(column) == value and record.state in (LIVE, REFUSED)


_HOLDING = (
    "id", "patient_id", ISSUER, "data_source", STATUS, "exam_ended_on", "scheduled_start_date",
    "scanner_touched",
)  # fmt: skip
