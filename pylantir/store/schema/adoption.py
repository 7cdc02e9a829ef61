"""Converts items of an earlier version to DICOM form and gives each a claim that its source takes over.

Lives in the writer. `claim_old_items` runs once, at the first start with an old file. `match_old_records` lets the next
sync recognise the old items, so that it does not duplicate an item or change its UID or a scanner's status.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping, bindparam, func, insert, select, update

from pylantir.entry import RECORD_ID_FIELD, SCHEDULED, WORKLIST_FIELDS
from pylantir.errors import RecordRejected
from pylantir.store.decide.claims import STATUS, STUDY_UID
from pylantir.store.decide.records import LIVE, Record
from pylantir.store.schema.audit_guard import add_lines
from pylantir.store.schema.bulk import chunks
from pylantir.store.schema.tables import source_entries, worklist_items
from pylantir.values.normalise import normalise_value

OLD_KEY = "old:"
"""The beginning of the key of every claim that no source has taken over yet."""

OLD_SOURCE = "redcap_legacy"
"""The source of items that name none: the earliest versions supported only REDCap."""
_NAMES_OF_OLD_SOURCE = frozenset({None, "", "REDCap"})

_COMPOSITE_ID = re.compile(r"sub[-_](.+?)_ses[-_](.+?)(?:\.0+)?(?:_fam[-_](.*?))?(?:_site[-_](.*))?")
_WITH_SITE = re.compile(r"(sub_.+_ses_.+)_site_.+")
_UNKNOWN = frozenset({None, "", "None", "none", "nan", "NaN"})
_NOT_CLAIMED = frozenset({STATUS, STUDY_UID, "scheduled_procedure_step_id", "requested_procedure_id"})
_COPIED_ROWS = 1000
_NEXT_RECORD_ID = select(func.coalesce(func.max(source_entries.c.id), 0) + 1)

logger = logging.getLogger(__name__)


def claim_old_items(connection: Connection, now: str) -> int:
    """Normalise the rows of an earlier version and claim them for their source; return the number of rows."""
    rows = connection.execute(select(worklist_items).where(worklist_items.c.created_at.is_(None))).mappings().all()
    record_id = connection.scalars(_NEXT_RECORD_ID).one()
    updates: list[dict[str, Any]] = []
    claims: list[dict[str, Any]] = []
    notes: list[dict[str, Any]] = []
    unreadable = 0
    for row in rows:
        values, complete = _normalise_row(row)
        unreadable += not complete
        status = values[STATUS] = values[STATUS] or SCHEDULED
        updates.append({**values, "scanner_touched": int(status != SCHEDULED), "created_at": now, "row_id": row["id"]})
        changes = {name: [row[name], value] for name, value in values.items() if row[name] != value}
        notes.append(_note(row["id"], values, {"origin": [None, "earlier version"], **changes}, now))
        if complete:
            claims.append(_claim(record_id, row, values, now))
            record_id += 1
    for statement, parameters in (
        (_UPDATE, updates),
        (insert(source_entries), claims),
    ):
        for start in range(0, len(parameters), _COPIED_ROWS):
            connection.execute(statement, parameters[start : start + _COPIED_ROWS])
    add_lines(connection, notes)
    if unreadable:
        logger.warning(
            "%d items of the earlier version lack a patient ID or a legible date; they stay as they are", unreadable
        )
    return len(rows)


def canonical_patient_id(patient_id: str) -> str:
    """Write an ID of study, session, family and site in the present form: no dashes, no "1.0", no "None"."""
    match = _COMPOSITE_ID.fullmatch(patient_id)
    if match is None:
        return patient_id
    parts = zip(("sub", "ses", "fam", "site"), match.groups(), strict=True)
    return "_".join(f"{label}_{part}" for label, part in parts if part not in _UNKNOWN)


def complete_old_ids(
    connection: Connection, source: str, patients: Iterable[str], configured: Iterable[str], now: str
) -> None:
    """Add the site to the patient IDs of old items: version 0.4 left it out, and only the source can tell it.

    Args:
        connection: A transaction that has not read these patients yet.
        source: The source whose records arrive.
        patients: Patient IDs of its new records.
        configured: As for `match_old_records`.
        now: The time.
    """
    completed = {match[1]: patient for patient in set(patients) if (match := _WITH_SITE.fullmatch(patient))}
    for chunk in chunks(completed):
        for row in connection.execute(_FIND_OLD, {"patients": chunk}).all():
            if row.data_source != source and row.data_source in configured:
                continue
            patient = completed[row.patient_id]
            connection.execute(_RENAME_CLAIM, {"row_id": row.id, "patient_id": patient})
            connection.execute(_UPDATE, {"row_id": row.item_id, "patient_id": patient})
            note = _note(row.item_id, {"patient_id": patient}, {"patient_id": [row.patient_id, patient]}, now)
            add_lines(connection, [note])


def match_old_records(
    records: Iterable[Record], source: str, newcomers: Mapping[str, Mapping[str, str]], configured: Iterable[str]
) -> dict[str, Record]:
    """Find the old claims that a source's new records replace.

    Args:
        records: The records in memory, among them all of the newcomers' patients.
        source: Whose records arrive.
        newcomers: Record key -> fields, of records that the source did not have before.
        configured: All configured sources; old claims of another configured source are not considered.

    Returns:
        Record key -> old claim: of the same patient and day, else the patient's only one.
    """
    old: dict[str, list[Record]] = {}
    for record in records:
        ours = record.data_source == source or record.data_source not in configured
        if record.state == LIVE and ours and record.record_key.startswith(OLD_KEY):
            old.setdefault(record.patient_id, []).append(record)
    matched: dict[str, Record] = {}
    if old:
        for key, fields in newcomers.items():
            candidates = old.get(fields["patient_id"], [])
            same_day = [
                one for one in candidates if one.fields["scheduled_start_date"] == fields["scheduled_start_date"]
            ]
            if same_day:
                matched[key] = same_day[0]
                candidates.remove(same_day[0])
        for key, fields in newcomers.items():
            candidates = old.get(fields["patient_id"], [])
            if key not in matched and len(candidates) == 1:
                matched[key] = candidates.pop()
    return matched


def _normalise_row(row: RowMapping) -> tuple[dict[str, Any], bool]:
    """Return the worklist fields in DICOM form, unreadable ones unchanged, and whether patient and date are present."""
    values: dict[str, Any] = {}
    legible = True
    for name in WORKLIST_FIELDS:
        value = row[name]
        try:
            values[name] = None if value is None else normalise_value(name, str(value))
        except RecordRejected:
            values[name] = value
            legible &= name not in {"patient_id", "scheduled_start_date"}
    if values["patient_id"]:
        values["patient_id"] = canonical_patient_id(str(values["patient_id"]))
    return values, bool(legible and values["patient_id"] and values["scheduled_start_date"])


def _claim(record_id: int, row: RowMapping, values: Mapping[str, Any], now: str) -> dict[str, Any]:
    return {
        **{name: None if name in _NOT_CLAIMED else value or None for name, value in values.items()},
        RECORD_ID_FIELD: str(row[RECORD_ID_FIELD]) if row[RECORD_ID_FIELD] else None,
        "id": record_id,
        "data_source": OLD_SOURCE if row["data_source"] in _NAMES_OF_OLD_SOURCE else row["data_source"],
        "record_key": f"{OLD_KEY}{row['id']}",
        "state": LIVE,
        "item_id": row["id"],
        "first_seen_at": now,
        "changed_at": now,
        "withdrawn_at": None,
    }


def _note(item_id: int, values: Mapping[str, Any], changes: Mapping[str, Sequence[object]], now: str) -> dict[str, Any]:
    return {
        "at": now,
        "actor": "command:upgrade",
        "action": "adopted",
        "item_id": item_id,
        "patient_id": values["patient_id"],
        "changes": json.dumps(changes, ensure_ascii=False),
    }


_UPDATE = update(worklist_items).where(worklist_items.c.id == bindparam("row_id"))
_RENAME_CLAIM = update(source_entries).where(source_entries.c.id == bindparam("row_id"))
_FIND_OLD = select(source_entries).where(
    source_entries.c.patient_id.in_(bindparam("patients", expanding=True)),
    source_entries.c.record_key.startswith(OLD_KEY, autoescape=True),
    source_entries.c.state == LIVE,
)
