"""Erases one patient from every table on an operator's command, and writes what remains of an item: a tombstone.

Lives in the writer. In: a patient ID and a reason. Out: one committed transaction, and a text for the operator. The
files are cleaned afterwards (`residue`). A tombstone is a line of the audit log with the item's number, the reason and
a keyed hash of the patient ID; nobody can read the patient from it, but a given ID can be compared with it.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Engine, RowMapping, Table, Text, delete, or_, select, update

from pylantir.errors import CommandRefused
from pylantir.store.change.striking import mentions, stored_forms, strike_all, strike_json
from pylantir.store.clock import Clock, system_time, utc_now
from pylantir.store.decide.claims import Rules
from pylantir.store.decide.records import IDENTIFIERS, REFUSED, WITHDRAWN
from pylantir.store.intake.holders import find_holding_patients
from pylantir.store.intake.working.changes import encode
from pylantir.store.intake.working_set import WorkingSet
from pylantir.store.schema.audit_guard import add_lines, allow_changes, forbid_changes
from pylantir.store.schema.bulk import chunks
from pylantir.store.schema.done_exams import forget_done_exams, make_hasher
from pylantir.store.schema.engine import transaction
from pylantir.store.schema.tables import (
    access_log,
    audit_log,
    conflicts,
    mpps_instances,
    mpps_requests,
    rejected_entries,
    source_entries,
    source_states,
    source_warnings,
    sync_runs,
    worklist_items,
)

_ITEMS, _ENTRIES, _AUDIT, _REPORTS = worklist_items.c, source_entries.c, audit_log.c, mpps_instances.c


@dataclass(slots=True)
class Erased:
    """What was erased, or would be.

    Attributes:
        counts: Table, in words, -> number of its rows.
        still_given: Source -> number of records that it still gives.
        values: The patient's ID, names and birth dates, to look for in the database's files; not to be shown.
    """

    counts: dict[str, int] = field(default_factory=dict)
    still_given: dict[str, int] = field(default_factory=dict)
    values: set[str] = field(default_factory=set)

    def describe(self, *, dry_run: bool) -> str:
        """Say it to the operator, without any of the patient's values."""
        counted = ", ".join(f"{count} {what}" for what, count in self.counts.items() if count)
        said = f"{'would be erased' if dry_run else 'erased'}: {counted or 'nothing is known of this patient'}"
        if self.still_given:
            given = ", ".join(f"{source} ({count} records)" for source, count in sorted(self.still_given.items()))
            said += f"; still given, so that the patient comes back with the next fetch: {given}"
        return said


def erase_patient(
    engine: Engine,
    patient_id: str,
    reason: str,
    rules: Rules,
    *,
    by: str = "",
    dry_run: bool = False,
    clock: Clock = system_time,
) -> Erased:
    """Erase a patient: items, records of every source, refused records, reports, audit values, shown items.

    Args:
        engine: The database.
        patient_id: The patient's ID, with its source's prefix.
        reason: Why; it stays in the tombstones.
        rules: Priorities and the matching rule.
        by: Who asked for it.
        dry_run: Only count.
        clock: Returns the time.

    Raises:
        CommandRefused: The ID or the reason is missing.
    """
    if not patient_id.strip() or not reason.strip():
        raise CommandRefused("a patient ID and a reason are needed; the reason stays in the audit log")
    now = utc_now(clock)
    with transaction(engine, dry_run=dry_run) as connection:
        erasure = _Erasure(connection, patient_id)
        erasure.find()
        if strike_all([patient_id], reason) != reason:
            raise CommandRefused("the reason stays in the audit log: it must not name the patient")
        note = {"at": now, "actor": "command:purge", "action": "purged"}
        why = {"reason": reason, **({"by": by} if by else {})}
        erasure.delete()
        add_tombstones(connection, [(number, patient_id) for number in sorted(erasure.numbers)], note, why)
        _decide_others(connection, erasure, rules, now)
        # Every writer, other hosts' too, forgets what it knows of the sources: they send everything again.
        connection.execute(update(source_states).values(mark=secrets.token_hex(8)))
        erasure.result.still_given = {
            source: count for source, count in erasure.result.still_given.items() if source in rules.ranks
        }
        return erasure.result


def add_tombstones(
    connection: Connection,
    items: Sequence[tuple[int, str | None]],
    note: Mapping[str, object],
    why: Mapping[str, object],
) -> None:
    """Add to the audit log what remains of deleted items.

    Args:
        connection: In a transaction.
        items: Number and patient ID of each.
        note: `at`, `actor` and `action` of the lines.
        why: The reason, and who asked for it.
    """
    hashed = make_hasher(connection)
    hashes = {patient: hashed(patient) for patient in {patient for _, patient in items}}
    lines = [
        {**note, "item_id": number, "patient_id": None,
         "changes": encode({**why, "patient_hash": hashes[patient]})}
        for number, patient in items
    ]  # fmt: skip
    add_lines(connection, lines)


class _Erasure:
    """One patient's rows in every table."""

    def __init__(self, connection: Connection, patient_id: str) -> None:
        self.result = Erased(values={patient_id})
        self.numbers: set[int] = set()
        self.items: Sequence[RowMapping] = ()
        self.others: set[str] = set()
        self._connection = connection
        self._patient_id = patient_id

    def find(self) -> None:
        """Find the patient's items, past ones too, and the values by which the patient is known."""
        connection, patient = self._connection, self._patient_id
        self.items = connection.execute(select(worklist_items).where(_ITEMS.patient_id == patient)).mappings().all()
        live = {row["id"] for row in self.items}
        named = set(connection.scalars(select(_AUDIT.item_id).where(_AUDIT.patient_id == patient))) - {None}
        existing = {
            number
            for chunk in chunks(sorted(named))
            for number in connection.scalars(select(_ITEMS.id).where(_ITEMS.id.in_(chunk)))
        }
        # An item that has another patient ID by now, after a correction, stays.
        self.numbers = live | (named - existing)
        for row in self.items:
            self._note_values(row["patient_name"], row["patient_birth_date"])
        self._records = self._find_records(live)
        for record in self._records:
            self._note_values(record["patient_name"], record["patient_birth_date"])
            if record["state"] != WITHDRAWN:
                counted = self.result.still_given
                counted[record["data_source"]] = counted.get(record["data_source"], 0) + 1

    def delete(self) -> None:
        """Delete the patient's rows, and strike the patient's values out of rows about others."""
        counts = self.result.counts
        numbers = sorted(self.numbers)
        counts["items"] = len(self.items)
        counts["records"] = len(self._records)
        counts["reports"] = self._delete_reports()
        forget_done_exams(self._connection, self._patient_id)
        counts["refused records"] = self._delete_mentioning(rejected_entries)
        counts["warnings"] = self._delete_mentioning(source_warnings)
        counts["differences"] = self._delete_conflicts()
        self._delete_mentioning(mpps_requests)
        self._strike_runs()
        allow_changes(self._connection)
        counts["audit lines"] = self._delete_audit_lines(numbers)
        self._strike_audit_lines()
        forbid_changes(self._connection)
        counts["answers in the access log"] = self._strike_access(numbers)
        self._delete("id", source_entries, [record["id"] for record in self._records])
        self._delete("id", worklist_items, [row["id"] for row in self.items])

    def _note_values(self, *values: str | None) -> None:
        self.result.values |= {value for value in values if value}

    def _find_records(self, live: set[int]) -> list[RowMapping]:
        columns = (
            _ENTRIES.id, _ENTRIES.data_source, _ENTRIES.state, _ENTRIES.patient_id, _ENTRIES.patient_name,
            _ENTRIES.patient_birth_date,
        )  # fmt: skip
        wanted = select(*columns).where(_ENTRIES.patient_id == self._patient_id)
        found = {row["id"]: row for row in self._connection.execute(wanted).mappings()}
        if live:
            # The same exam under another patient ID.
            for chunk in chunks(sorted(live)):
                for row in self._connection.execute(select(*columns).where(_ENTRIES.item_id.in_(chunk))).mappings():
                    found[row["id"]] = row
        return list(found.values())

    def _delete(self, column: str, table: Table, values: Iterable[object]) -> int:
        count = 0
        for chunk in chunks(sorted(set(values))):  # type: ignore[type-var]
            count += self._connection.execute(delete(table).where(table.c[column].in_(chunk))).rowcount
        return count

    def _delete_reports(self) -> int:
        about = select(_REPORTS.sop_instance_uid, _REPORTS.patient_id, _REPORTS.item_ids, _REPORTS.attributes)
        gone = []
        for row in self._connection.execute(about).mappings():
            if row["patient_id"] != self._patient_id and not self.numbers.intersection(json.loads(row["item_ids"])):
                continue
            gone.append(row["sop_instance_uid"])
            self._note_report(json.loads(row["attributes"]))
        return self._delete("sop_instance_uid", mpps_instances, gone)

    def _note_report(self, attributes: Mapping[str, Any]) -> None:
        """Note the name and the birth date that a scanner has reported; the form is that of DICOM JSON."""
        for tag in ("00100010", "00100030", "00100020"):
            for value in attributes.get(tag, {}).get("Value", ()):
                self._note_values(*(value.values() if isinstance(value, Mapping) else [str(value)]))

    def _delete_mentioning(self, table: Table) -> int:
        """Delete rows that name the patient; what is still true comes back with the next fetch."""
        keys = [column.name for column in table.primary_key]
        gone = [row[keys[0]] for row in self._mentioning(table)]
        return self._delete(keys[0], table, gone)

    def _mentioning(self, table: Table, *columns: str) -> list[RowMapping]:
        given = [column for column in table.columns if not columns or column.name in columns]
        texts = [column for column in given if isinstance(column.type, Text)]
        forms = stored_forms(self._patient_id)
        contains = or_(*(column.contains(form, autoescape=True) for column in texts for form in forms))
        rows = self._connection.execute(select(table).where(contains)).mappings().all()
        return [row for row in rows if any(mentions(self._patient_id, row[column.name]) for column in texts)]

    def _delete_conflicts(self) -> int:
        gone = [
            row
            for row in self._connection.execute(select(conflicts)).mappings()
            if row["patient_id"] == self._patient_id or self.numbers.intersection(json.loads(row["items"]))
        ]
        gone += self._mentioning(conflicts)
        self.others |= {row["patient_id"] for row in gone} - {self._patient_id}
        return self._delete("id", conflicts, [row["id"] for row in gone])

    def _strike_runs(self) -> None:
        for row in self._mentioning(sync_runs, "error"):
            self._update(sync_runs, row["id"], {"error": strike_all(self.result.values, row["error"])})

    def _delete_audit_lines(self, numbers: Sequence[int]) -> int:
        count = 0
        for chunk in chunks(numbers):
            count += self._connection.execute(delete(audit_log).where(_AUDIT.item_id.in_(chunk))).rowcount
        of_patient = (_AUDIT.patient_id == self._patient_id, _AUDIT.item_id.is_(None))
        return count + self._connection.execute(delete(audit_log).where(*of_patient)).rowcount

    def _strike_audit_lines(self) -> None:
        """Strike the patient out of lines about other items; each of them keeps its place."""
        for row in self._mentioning(audit_log, "changes", "patient_id", "actor"):
            changes = strike_json(json.loads(row["changes"]), self.result.values)
            patient = None if row["patient_id"] == self._patient_id else row["patient_id"]
            values = {"changes": json.dumps(changes, ensure_ascii=False), "patient_id": patient}
            self._update(audit_log, row["id"], values)

    def _strike_access(self, numbers: Sequence[int]) -> int:
        """Take the items out of the lists of what was shown."""
        count = 0
        rows = self._connection.execute(select(access_log.c.id, access_log.c.item_ids)).all() if numbers else ()
        for row_id, item_ids in rows:
            shown = json.loads(item_ids)
            if kept := self.numbers.intersection(shown):
                count += 1
                left = [number for number in shown if number not in kept]
                self._update(access_log, row_id, {"item_ids": json.dumps(left)})
        return count

    def _update(self, table: Table, row_id: int, values: Mapping[str, object]) -> None:
        self._connection.execute(update(table).where(table.c.id == row_id), values)


def _decide_others(connection: Connection, erasure: _Erasure, rules: Rules, now: str) -> None:
    """Decide again about other patients: some waited for the numbers of this one, some differed from this one."""
    waiting = {
        patient
        for column in IDENTIFIERS
        for patient in find_holding_patients(
            connection, column, sorted({str(row[column]) for row in erasure.items if row[column]}), (REFUSED,)
        )
    }
    patients = sorted(waiting | erasure.others)
    if patients:
        working = WorkingSet(connection, rules, actor="command:purge", now=now)
        working.load(patients)
        working.touch_all()
        for row in erasure.items:
            working.free(row)
        working.write()
