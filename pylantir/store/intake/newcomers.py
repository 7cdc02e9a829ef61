"""Records that no decision is needed for: most of a first sync, and of what is new later. Lives in the writer.

Where nothing is stored that a record could be merged with, or could take something from, it is an item of its own, and
many of them can be written with a few statements. What becomes of them is what `working_set` would make of them, and
the tests see to that.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from pylantir.entry import CONSTANT_FALLBACKS, RECORD_ID_FIELD, SCHEDULED
from pylantir.ipc.records import Column, RecordColumns
from pylantir.store.decide.claims import STATUS, STUDY_UID, make_study_uids
from pylantir.store.intake.bulk import insert_columns, insert_copies, select_among
from pylantir.store.intake.records import IDENTIFIERS, LIVE, STEP_KEY, find_started_holders, next_ids
from pylantir.store.schema.adoption import OLD_KEY
from pylantir.store.schema.tables import audit_log, source_entries, worklist_items


def find_undecided_patients(connection: Connection, source: str, records: RecordColumns) -> set[str]:
    """The patients about whose records has to be decided: with what is stored of them, more is to do than to add.

    That is nobody whose records are all this source's own, live, and not the scanner's yet: records of one source are
    never merged. An identifier that belongs to somebody else, or is claimed by two patients, always needs a decision.

    Args:
        connection: In a transaction.
        source: Whose records they are.
        records: Records that the source did not have before.
    """
    everybody = set(records.patients)
    beginning = f"substr(record_key, 1, {len(OLD_KEY)})"
    claims = select_among(
        connection, source_entries, ("patient_id", "data_source", "state", beginning), "patient_id", everybody,
        distinct=True,
    )  # fmt: skip
    items = select_among(
        connection, worklist_items, ("patient_id", "data_source", STATUS, "scanner_touched"), "patient_id", everybody,
        distinct=True,
    )  # fmt: skip
    undecided = {patient for patient, *how, key in claims if how != [source, LIVE] or key == OLD_KEY}
    undecided |= {patient for patient, *how in items if how != [source, SCHEDULED, 0]}
    known = {row[0] for row in claims} - undecided
    if known:
        # A record without an identifier of its own may be one that is stored already, at another time.
        moving = zip(records.keys, records.patients, strict=True)
        undecided |= {patient for key, patient in moving if patient in known and key.startswith(STEP_KEY)}
    for column in IDENTIFIERS:
        undecided |= _find_disputing(connection, column, records)
    return undecided


def _find_disputing(connection: Connection, column: str, records: RecordColumns) -> set[str]:
    """The patients of records with an identifier that another patient's record or a scanner's item has, too."""
    values = records.values.get(column)
    if not values or not any(values):
        return set()
    owner: dict[str, str] = {}
    disputed: set[str] = set()
    for value, patient in zip(values, records.patients, strict=True):
        if value and owner.setdefault(value, patient) != patient:
            disputed.add(value)
    claimed = select_among(connection, source_entries, (column, "patient_id"), column, owner, distinct=True)
    disputed |= {value for value, patient in claimed if owner[value] != patient}
    disputed |= find_started_holders(connection, column, list(owner)).keys()
    return {patient for value, patient in zip(values, records.patients, strict=True) if value in disputed}


def insert_newcomers(connection: Connection, source: str, records: RecordColumns, now: str) -> tuple[range, range]:
    """Store records that need no decision, each with an item of its own.

    Args:
        connection: In a transaction.
        source: Whose records they are.
        records: Without two of the same key; none of its patients is among the undecided.
        now: The time.

    Returns:
        The ids of the records, and of their items, in the order of the records.
    """
    first_record, first_item = next_ids(connection)
    count, given = len(records), records.values
    record_ids, item_ids = range(first_record, first_record + count), range(first_item, first_item + count)
    columns: dict[str, Sequence[object]] = {
        "id": item_ids,
        **given,
        # Each key is another UID: no item has it yet.
        "generated_study_uid": make_study_uids(source, records.keys, records.patients),
    }
    constants = {"data_source": source, "created_at": now, "updated_at": now}
    repeated = {}
    # What stands in an item because nobody said otherwise is not what the source said.
    own: dict[str, Column] = {}
    for name, origin in _REPEATED.items():
        if name not in given:
            repeated[name] = origin
        elif not all(given[name]):
            own[name] = given[name]
            columns[name] = [value or str(other) for value, other in zip(given[name], columns[origin], strict=True)]
    for name, constant in _CONSTANT.items():
        if name not in given:
            constants[name] = constant
        elif not all(given[name]):
            own[name] = given[name]
            columns[name] = [value or constant for value in given[name]]
    insert_columns(connection, worklist_items, columns, constants, repeated)
    copied = {
        "id": f"o.id + {first_record - first_item}",
        "item_id": "o.id",
        **{name: f"o.{name}" for name in given if name not in own},
    }
    own_ids = given.get(RECORD_ID_FIELD)
    if own_ids and all(map(str.__eq__, records.keys, [f"id:{own_id}" for own_id in own_ids])):
        copied["record_key"] = f"'id:' || o.{RECORD_ID_FIELD}"
    else:
        own["record_key"] = records.keys
    insert_copies(
        connection, source_entries, worklist_items, item_ids, copied, own,
        {"data_source": source, "state": LIVE, "first_seen_at": now, "changed_at": now},
    )  # fmt: skip
    insert_copies(
        connection, audit_log, worklist_items, item_ids, {"item_id": "o.id", "patient_id": "o.patient_id"},
        constants={"at": now, "actor": f"source:{source}", "action": "created", "changes": "{}"},
    )  # fmt: skip
    return record_ids, item_ids


_REPEATED = {
    STUDY_UID: "generated_study_uid", "patient_name": "patient_id", "scheduled_procedure_step_id": "id",
    "requested_procedure_id": "id",
}  # fmt: skip
_CONSTANT = {**CONSTANT_FALLBACKS, STATUS: SCHEDULED}
"""What an item says where its source does not: another column of it, or always the same."""
