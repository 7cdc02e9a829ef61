"""Records of patients of whom nobody has spoken yet: most of a first sync. Lives in the writer.

Where nothing is stored that a record could be compared with, each record is an item of its own, and many of them can be
written with a few statements. What becomes of them is what `working_set` would make of them, and the tests see to that.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import repeat

from sqlalchemy import Connection

from pylantir.entry import SCHEDULED
from pylantir.store.bulk import insert_columns, insert_copies, select_among
from pylantir.store.claims import STATUS, STUDY_UID, make_study_uid
from pylantir.store.records import IDENTIFIERS, LIVE, find_started_holders, next_ids
from pylantir.store.tables import audit_log, source_entries, worklist_items
from pylantir.wire.columns import RecordColumns

_FILLED = frozenset({
    STUDY_UID, STATUS, "patient_name", "modality", "scheduled_start_time", "scheduled_procedure_step_id",
    "requested_procedure_id",
})  # fmt: skip
"""Columns of an item that have a value in any case."""


def find_known_patients(connection: Connection, records: RecordColumns) -> set[str]:
    """The patients whose records need a decision: something is stored about them, or about a number of theirs.

    Args:
        connection: In a transaction.
        records: Records that their source did not have before.
    """
    everybody = set(records.patients)
    known = {
        patient
        for table in (source_entries, worklist_items)
        for (patient,) in select_among(connection, table, ("patient_id",), "patient_id", everybody)
    }
    for column in IDENTIFIERS:
        values = records.values.get(column)
        if not values or not any(values):
            continue
        owner: dict[str, str] = {}
        shared: set[str] = set()
        for value, patient in zip(values, records.patients, strict=True):
            if value and owner.setdefault(value, patient) != patient:
                shared.add(value)
        taken = shared | {value for (value,) in select_among(connection, source_entries, (column,), column, owner)}
        taken |= find_started_holders(connection, column, list(owner)).keys()
        if taken:
            known.update(p for value, p in zip(values, records.patients, strict=True) if value in taken)
    return known


def insert_newcomers(connection: Connection, source: str, records: RecordColumns, now: str) -> tuple[range, range]:
    """Store records of patients who are not known, each with an item of its own.

    Args:
        connection: In a transaction.
        source: Whose records they are.
        records: Without two of the same key; none of its patients is among the known.
        now: The time.

    Returns:
        The ids of the records, and of their items, in the order of the records.
    """
    first_record, first_item = next_ids(connection)
    count, patients, given = len(records), records.patients, records.values
    record_ids, item_ids = range(first_record, first_record + count), range(first_item, first_item + count)
    uids = [
        make_study_uid(source, key, patient)  # each key is another UID: no item has it yet
        for key, patient in zip(records.keys, patients, strict=True)
    ]

    def filled(name: str, fallback: Iterable[str]) -> Iterable[str]:
        column = given.get(name)
        return [value or other for value, other in zip(column, fallback, strict=False)] if column else fallback

    item_numbers = list(map(str, item_ids))
    insert_columns(
        connection,
        worklist_items,
        {
            "id": item_ids,
            **given,
            STUDY_UID: filled(STUDY_UID, uids),
            "patient_name": filled("patient_name", patients),
            "modality": filled("modality", repeat("MR")),
            "scheduled_start_time": filled("scheduled_start_time", repeat("000000")),
            STATUS: filled(STATUS, repeat(SCHEDULED)),
            "scheduled_procedure_step_id": filled("scheduled_procedure_step_id", item_numbers),
            "requested_procedure_id": filled("requested_procedure_id", item_numbers),
            "generated_study_uid": uids,
        },
        {"data_source": source, "created_at": now, "updated_at": now},
    )
    # What stands in the item because nobody said otherwise is not what the source said.
    own = {name: given[name] for name in given if name in _FILLED and not all(given[name])}
    insert_copies(
        connection,
        source_entries,
        worklist_items,
        item_ids,
        {
            "id": f"o.id + {first_record - first_item}",
            "item_id": "o.id",
            **{name: f"o.{name}" for name in given if name not in own},
        },
        {"record_key": records.keys, **own},
        {"data_source": source, "state": LIVE, "first_seen_at": now, "changed_at": now},
    )
    insert_copies(
        connection,
        audit_log,
        worklist_items,
        item_ids,
        {"item_id": "o.id", "patient_id": "o.patient_id"},
        constants={"at": now, "actor": f"source:{source}", "action": "created", "changes": "{}"},
    )
    return record_ids, item_ids
