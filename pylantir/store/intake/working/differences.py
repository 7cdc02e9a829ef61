"""Keeps the table `conflicts` (differences between sources) up to date after every decision. Lives in the writer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import replace
from typing import NamedTuple

from sqlalchemy import Connection, delete

from pylantir.store.decide.differences import HELD, KEPT_APART, Difference
from pylantir.store.intake.working.changes import AuditTrail, encode
from pylantir.store.schema.bulk import chunks, insert_rows, select_among, update_rows
from pylantir.store.schema.tables import conflicts

_READ = ("id", "patient_id", "other_patient_id", "kind", "items", "sources", "records", "fields")


class StoredDifference(NamedTuple):
    """An entry, the id of its row, and its patient."""

    id: int
    patient_id: str
    entry: Difference


def ask_differences(connection: Connection, patients: Iterable[str]) -> Callable[[], list[StoredDifference]]:
    """Ask for the stored entries about these patients, including those whose other item is one of these patients'."""
    named = list(patients)
    asked = [select_among(connection, conflicts, _READ, name, named) for name in ("patient_id", "other_patient_id")]

    def read() -> list[StoredDifference]:
        found = []
        for number, patient, other, kind, *parts in {row[0]: row for rows in asked for row in rows}.values():
            items, sources, records, said = map(json.loads, parts)
            fields = {name: (value, lost) for name, (value, lost) in said.items()}
            entry = Difference(
                kind=kind, items=tuple(items), sources=tuple(sources), records=tuple(records), fields=fields,
                other_patient=other,
            )  # fmt: skip
            found.append(StoredDifference(number, patient, entry))
        return found

    return read


def forget_differences(connection: Connection, patients: Iterable[str], item_ids: Set[int]) -> None:
    """Delete the entries about items that are deleted."""
    stored = ask_differences(connection, patients)()
    gone = [one.id for one in stored if not item_ids.isdisjoint(one.entry.items)]
    if gone:
        connection.execute(delete(conflicts).where(conflicts.c.id.in_(gone)))


def add_differences(connection: Connection, entries: Mapping[str, Sequence[Difference]], now: str) -> None:
    """Store patient ID -> entries, in place of what is stored about these patients."""
    for patients in chunks(entries):
        connection.execute(delete(conflicts).where(conflicts.c.patient_id.in_(patients), conflicts.c.kind == HELD))
    rows = [_row(patient, entry, now) for patient, own in entries.items() for entry in own]
    insert_rows(connection, conflicts, rows)


def _row(patient: str, entry: Difference, now: str) -> dict[str, object]:
    parts = {"items": entry.items, "sources": entry.sources, "records": entry.records, "fields": entry.fields}
    about = {"patient_id": patient, "other_patient_id": entry.other_patient}
    return {**about, "kind": entry.kind, **{k: encode(v) for k, v in parts.items()}, "since": now}


class DifferenceChanges:
    """The changes of one transaction to the table, and the new entries for the log.

    Args:
        trail: The transaction's lines in the audit log.
        now: The time.

    Attributes:
        new: Entries to log, with the fields that were not known before.
    """

    def __init__(self, trail: AuditTrail, now: str) -> None:
        self.new: list[Difference] = []
        self._trail = trail
        self._now = now
        self._inserts: list[dict[str, object]] = []
        self._updates: list[tuple[int, dict[str, object]]] = []
        self._gone: list[int] = []

    def settle(self, patient: str, stored: Sequence[StoredDifference], found: Sequence[Difference]) -> None:
        """Compare a patient's entries with the stored ones, and note the changes."""
        known = {one.entry.place: one for one in stored}
        for entry in found:
            before = known.pop(entry.place, None)
            told = before.entry.fields if before else {}
            if before is None:
                self._inserts.append(_row(patient, entry, self._now))
            elif told != entry.fields:
                self._updates.append((before.id, {"fields": encode(entry.fields)}))
            fields = {name: pair for name, pair in entry.fields.items() if name not in told or told[name][1] != pair[1]}
            if fields:
                self._tell(patient, replace(entry, fields=fields))
        self._gone += [one.id for one in known.values()]

    def write(self, connection: Connection) -> None:
        """Write everything."""
        insert_rows(connection, conflicts, self._inserts)
        update_rows(connection, conflicts, self._updates)
        for start in range(0, len(self._gone), 500):
            connection.execute(delete(conflicts).where(conflicts.c.id.in_(self._gone[start : start + 500])))

    def _tell(self, patient: str, entry: Difference) -> None:
        self.new.append(entry)
        if entry.kind == KEPT_APART:
            whose = (entry.other_patient or patient, patient)
            for (one, other), owner in zip((entry.items, entry.items[::-1]), whose, strict=True):
                said = {"other_item": other, "fields": ", ".join(sorted(entry.fields))}
                self._trail.note(KEPT_APART, one, owner, said)
            return
        winner = entry.sources[0] if len(entry.sources) > 1 else "scanner"
        for name, (value, lost) in entry.fields.items():
            difference = {"winner": winner, "value": value, "loser": entry.sources[-1], "lost": lost}
            self._trail.note("conflict", entry.items[0], patient, {name: difference})
