"""Inserts new records that need no decision: most of a first sync and most later additions. Lives in the writer.

A record needs no decision if no stored record can merge with it or lose an identifier to it. It becomes an item of its
own, and a few statements insert many such items. The result is the same as that of `working_set`; tests compare them.
Glossary: newcomer (docs/explanation/glossary.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import repeat

from sqlalchemy import Connection

from pylantir.entry import CONSTANT_FALLBACKS, RECORD_ID_FIELD, SCHEDULED
from pylantir.ipc.records import Column, RecordColumns
from pylantir.store.decide.claims import STATUS, STUDY_UID, make_study_uids
from pylantir.store.decide.evidence import IDENTITY, ISSUER
from pylantir.store.decide.records import IDENTIFIERS, LIVE
from pylantir.store.intake.holders import ask_holding_items, ask_moved, ask_supplied
from pylantir.store.schema.adoption import OLD_KEY
from pylantir.store.schema.bulk import insert_columns, insert_copies, select_among_new
from pylantir.store.schema.done_exams import find_done_exams
from pylantir.store.schema.engine import host_of
from pylantir.store.schema.facts import Facts
from pylantir.store.schema.tables import audit_log, mpps_instances, source_entries, worklist_items


def find_undecided_patients(
    connection: Connection,
    source: str,
    records: RecordColumns,
    *,
    facts: Facts,
    is_seen: Callable[[int], bool],
    today: str,
) -> set[str]:
    """Return the patients whose records cannot simply be inserted.

    A patient is left out if all stored records are live records of this source and no scanner has touched their items:
    records of one source are never merged. An identifier of another patient, or one that two patients claim, always
    needs a decision, and so do records of one patient with different names, birth dates or sexes.

    Args:
        connection: In a transaction.
        source: Whose records they are.
        records: Records that the source did not have before.
        facts: What the transaction knows of the database.
        is_seen: Whether the cycle has shown a stored record: one that it has not may have got another key.
        today: YYYYMMDD.
    """
    everybody = list(set(records.patients))
    beginning = f"substr(record_key, 1, {len(OLD_KEY)})"
    columns = ("id", "patient_id", "data_source", "state", beginning, *IDENTITY)
    claims = select_among_new(connection, source_entries, columns, "patient_id", everybody)
    items = select_among_new(
        connection, worklist_items, ("patient_id", "data_source", STATUS, "scanner_touched"), "patient_id", everybody,
        distinct=True,
    )  # fmt: skip
    # The report of an exam may be there before its booking, or after it was purged.
    reported = select_among_new(connection, mpps_instances, ("patient_id",), "patient_id", everybody)
    done = find_done_exams(connection, everybody, facts.done_exams_key)
    disputing = [_ask_disputing(connection, column, records, today) for column in IDENTIFIERS]
    foreign = _ask_foreign(connection, source, records, facts)
    undecided, said = set[str](), list[tuple[str, Sequence[str | None]]]()
    for number, patient, *how, key, name, born, sex in claims:
        said.append((patient, (name, born, sex)))
        if how != [source, LIVE] or key == OLD_KEY or not is_seen(number):
            undecided.add(patient)
    if said or len(everybody) < len(records):
        nothing: Column = [None] * len(records)
        own = zip(*(records.values.get(name) or nothing for name in IDENTITY), strict=True)
        undecided |= find_described_otherwise([*said, *zip(records.patients, own, strict=True)])
    undecided |= {patient for patient, *how in items if how != [source, SCHEDULED, 0]}
    undecided |= {patient for (patient,) in reported} | {patient for patient, _ in done}
    return undecided.union(*(find() for find in disputing), foreign())


def find_described_otherwise(said: Iterable[tuple[str, Sequence[str | None]]]) -> set[str]:
    """Return the patients of whom two records give different names, birth dates or sexes. Pure."""
    known: dict[str, Sequence[str | None]] = {}
    found = set()
    for patient, identity in said:
        before = known.setdefault(patient, identity)
        if before is not identity and before != identity:
            if any(one and other and one != other for one, other in zip(before, identity, strict=True)):
                found.add(patient)
            known[patient] = [one or other for one, other in zip(before, identity, strict=True)]
    return found


def _ask_foreign(connection: Connection, source: str, records: RecordColumns, facts: Facts) -> Callable[[], set[str]]:
    """Return what finds the patients for whom a study UID would be generated that is in use already."""
    if STUDY_UID not in records.values and not facts.has_supplied_uids:
        return set
    made = dict(zip(make_study_uids(source, records.keys, records.patients), records.patients, strict=True))
    supplied, moved = ask_supplied(connection, made.keys()), ask_moved(connection, made.keys())

    def find() -> set[str]:
        used = {uid for uid, *_ in moved} | supplied().keys() | (made.keys() & set(records.values.get(STUDY_UID, ())))
        supplying = zip(records.values.get(STUDY_UID, ()), records.patients, strict=False)
        return {made[uid] for uid in used} | {patient for uid, patient in supplying if uid in used}

    return find


def _ask_disputing(connection: Connection, column: str, records: RecordColumns, today: str) -> Callable[[], set[str]]:
    """Return what finds the patients whose records share an identifier with another patient, issuer or touched item."""
    values = records.values.get(column)
    if not values or not any(values):
        return set
    owner: dict[str, tuple[str, str | None]] = {}
    disputed: set[str] = set()
    patients = list(zip(records.patients, records.values.get(ISSUER) or repeat(None), strict=False))
    for value, patient in zip(values, patients, strict=True):
        if value and owner.setdefault(value, patient) != patient:
            disputed.add(value)
    wanted = (column, "patient_id", ISSUER)
    claimed = select_among_new(connection, source_entries, wanted, column, list(owner), distinct=True)
    holding = ask_holding_items(connection, column, list(owner), today)

    def find() -> set[str]:
        for value, *patient in claimed:
            if owner[value] != tuple(patient):
                disputed.add(value)
        disputed.update(holding())
        return {patient for value, (patient, _) in zip(values, patients, strict=True) if value in disputed}

    return find


def insert_newcomers(
    connection: Connection, source: str, records: RecordColumns, now: str, *, facts: Facts
) -> tuple[range, range]:
    """Store records that need no decision, each with an item of its own.

    Args:
        connection: In a transaction.
        source: Whose records they are.
        records: Each key comes once, and no record belongs to an undecided patient.
        now: The time.
        facts: With the free ids.

    Returns:
        The ids of the records, and of their items, in the order of the records.
    """
    first_record, first_item = facts.next_record_id, facts.next_item_id
    record_ids = range(first_record, first_record + len(records))
    item_ids = range(first_item, first_item + len(records))
    rows = plan_rows(source, records, item_ids)
    owned = {"data_source": source, "created_at": now, "updated_at": now}
    insert_columns(connection, worklist_items, rows.columns, {**rows.constants, **owned}, rows.repeated)
    insert_copies(
        connection, source_entries, worklist_items, item_ids,
        {"id": f"o.id + {first_record - first_item}", "item_id": "o.id", **rows.copied}, rows.own,
        {"data_source": source, "state": LIVE, "first_seen_at": now, "changed_at": now},
    )  # fmt: skip
    host = {"host": name} if (name := host_of(connection)) else {}
    insert_copies(
        connection, audit_log, worklist_items, item_ids, {"item_id": "o.id", "patient_id": "o.patient_id"},
        constants={"at": now, "actor": f"source:{source}", "action": "created", "changes": "{}", **host},
    )  # fmt: skip
    return record_ids, item_ids


@dataclass(frozen=True, slots=True)
class NewRows:
    """Where each column of the new rows comes from.

    Attributes:
        columns: Column of an item -> its values, in the order of the records.
        constants: Column of an item -> the one value that it has in all rows.
        repeated: Column of an item -> the column in `columns` that it repeats, as text.
        copied: Column of a record -> the SQL that reads it from the record's item.
        own: Column of a record -> its values, if the item has others.
    """

    columns: dict[str, Sequence[object]] = field(default_factory=dict)
    constants: dict[str, str] = field(default_factory=dict)
    repeated: dict[str, str] = field(default_factory=dict)
    copied: dict[str, str] = field(default_factory=dict)
    own: dict[str, Column] = field(default_factory=dict)


def plan_rows(source: str, records: RecordColumns, item_ids: range) -> NewRows:
    """Decide where each column comes from: the source, another column or a constant. Pure."""
    rows, given = NewRows(), records.values
    # Each key gives another UID, so no item has it yet.
    generated = make_study_uids(source, records.keys, records.patients)
    rows.columns.update({"id": item_ids, "generated_study_uid": generated, "patient_id": records.patients})
    for name in dict.fromkeys((*given, *_REPEATED, *_CONSTANT)):
        said = given.get(name)
        if said is None and name in _REPEATED:
            rows.repeated[name] = _REPEATED[name]
        elif said is None:
            rows.constants[name] = _CONSTANT[name]
        elif all(said) or name not in _FALLBACKS:
            rows.columns[name] = said
            rows.copied[name] = f"o.{name}"
        else:
            others = rows.columns[_REPEATED[name]] if name in _REPEATED else repeat(_CONSTANT[name], len(said))
            rows.columns[name] = [value or str(other) for value, other in zip(said, others, strict=True)]
            # A default value of the item did not come from the source.
            rows.own[name] = said
    own_ids = given.get(RECORD_ID_FIELD)
    if own_ids and all(map(str.__eq__, records.keys, [f"id:{own_id}" for own_id in own_ids])):
        rows.copied["record_key"] = f"'id:' || o.{RECORD_ID_FIELD}"
    else:
        rows.own["record_key"] = records.keys
    return rows


_REPEATED = {
    STUDY_UID: "generated_study_uid", "patient_name": "patient_id", "scheduled_procedure_step_id": "id",
    "requested_procedure_id": "id",
}  # fmt: skip
_CONSTANT = {**CONSTANT_FALLBACKS, STATUS: SCHEDULED}
_FALLBACKS = _REPEATED.keys() | _CONSTANT.keys()
"""The item's value where the source gives none: another column, or a constant."""
