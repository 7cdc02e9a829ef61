"""One transaction's working set: the records and items of some patients, changed in memory and written back in bulk.

Lives in the writer. Whatever changes records (a batch, the end of a snapshot, an operator's command) does it here, so
every change of an item goes through the same decision. Nothing is logged before the COMMIT: see `events`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection

from pylantir.entry import CANCELED, RECORD_FIELDS, RECORD_ID_FIELD, SCHEDULED
from pylantir.ipc.batch import Rejection
from pylantir.store.decide.claims import SCANNER, STATUS, Claim, Conflict, Item, ItemDecision, Rules
from pylantir.store.decide.identifiers import settle_identifiers
from pylantir.store.decide.reconcile import decide_group
from pylantir.store.decide.records import IDENTIFIERS, LIVE, REFUSED, WITHDRAWN, Record
from pylantir.store.decide.standing import drop_abandoned
from pylantir.store.intake.changes import NOT_AUDITED, AuditTrail, RowChanges, encode
from pylantir.store.intake.quarantine import add_rejections, remove_rejections
from pylantir.store.intake.records import next_ids, read_items, read_records

_NOTHING_GIVEN = dict.fromkeys((*RECORD_FIELDS, "known_conflicts"))
_GENERATED_IDS = ("scheduled_procedure_step_id", "requested_procedure_id")


@dataclass(slots=True)
class Events:
    """What a transaction did to the items, for the log and the counts."""

    inserted: list[int] = field(default_factory=list)
    changed: list[int] = field(default_factory=list)
    cancelled: list[int] = field(default_factory=list)
    conflicts: list[tuple[int, Conflict]] = field(default_factory=list)


class WorkingSet:
    """Records and items of the patients that a transaction touches."""

    def __init__(self, connection: Connection, rules: Rules, *, actor: str, now: str) -> None:
        self.connection = connection
        self.rules = rules
        self.now = now
        self.events = Events()
        self.records: dict[int, Record] = {}
        self._patients: dict[str, dict[int, Record]] = {}
        self._items: dict[str, list[Item]] = {}
        self._dirty: set[str] = set()
        self._identifiers: set[tuple[str, str]] = set()
        self._next_record_id, self._next_item_id = next_ids(connection)
        self._rows = RowChanges()
        self.trail = AuditTrail(actor, now)

    def load(self, patients: Iterable[str]) -> None:
        """Read the records and items of patients who are not in memory yet."""
        missing = [patient for patient in dict.fromkeys(patients) if patient not in self._patients]
        for patient in missing:
            self._patients[patient] = {}
            self._items[patient] = []
        for record in read_records(self.connection, missing):
            self.records[record.id] = record
            self._patients[record.patient_id][record.id] = record
        for item in read_items(self.connection, missing):
            self._items[str(item.values["patient_id"])].append(item)

    def items(self) -> dict[int, Item]:
        """All items of the loaded patients, by id."""
        return {item.id: item for items in self._items.values() for item in items}

    def records_of(self, patient: str) -> Iterable[Record]:
        """All records of a loaded patient, in every state."""
        return self._patients[patient].values()

    def add(self, data_source: str, record_key: str, fields: Mapping[str, str], state: str) -> Record:
        """A record that the source did not have before; its patient must be loaded."""
        record = Record(
            self._next_record_id, data_source, record_key, state, None, self.now, self.now, None, None, 0, fields
        )  # fmt: skip
        self._next_record_id += 1
        self.records[record.id] = record
        self._patients[record.patient_id][record.id] = record
        self.touch(record)
        return record

    def change(self, record: Record, fields: Mapping[str, str]) -> None:
        """A record that says something else than before, about another patient perhaps; both must be loaded."""
        if record.state == LIVE and record.fields["patient_id"] == fields["patient_id"]:
            # A number that it goes on claiming is nobody else's for that.
            before = record.identifiers()
            record.describe(fields, self.now)
            self._dirty.add(record.patient_id)
            self._identifiers.update(set(before) ^ set(record.identifiers()))
            return
        self.touch(record)
        del self._patients[record.patient_id][record.id]
        if record.patient_id != fields["patient_id"]:
            self._leave(record)
        record.describe(fields, self.now)
        self._patients[record.patient_id][record.id] = record
        if record.state == REFUSED:
            # What it claims now may be its own: `settle_identifiers` judges anew.
            self.enter(record, LIVE)
        self.touch(record)

    def enter(self, record: Record, state: str) -> None:
        """Change a record's state."""
        if record.state == state:
            return
        self.touch(record)
        if state == WITHDRAWN:
            self._note_vain_withdrawal(record)
        elif state == LIVE and any(
            other.state == LIVE and (other.data_source, other.item_id) == (record.data_source, record.item_id)
            for other in self.records_of(record.patient_id)
        ):
            # Another record of the source has taken the item over meanwhile.
            record.item_id = None
        record.enter(state, self.now)

    def touch(self, record: Record) -> None:
        """Decide anew about the record's patient and about the identifiers that it has."""
        self._dirty.add(record.patient_id)
        self._identifiers.update(record.identifiers())

    def touch_all(self) -> None:
        """Decide anew about everybody who is loaded."""
        self._dirty.update(self._patients)
        for record in self.records.values():
            self.touch(record)

    def free(self, item: Mapping[Any, Any]) -> None:
        """Judge anew who may have the identifiers of an item that has changed hands or is gone."""
        self._identifiers.update((column, str(item[column])) for column in IDENTIFIERS if item[column])

    def write(self) -> None:
        """Decide about all patients touched, and write everything back."""
        moved = settle_identifiers(self, self._identifiers)
        self._dirty.update(record.patient_id for record in moved)
        for patient in sorted(self._dirty):
            self._decide(patient)
        self._rows.write(self.connection, self.records.values(), self.trail)
        for record in moved:
            if record.state == REFUSED:
                add_rejections(self.connection, record.data_source, [_refusal(record)], self.now)
            else:
                remove_rejections(self.connection, record.data_source, [record.record_key])

    def _leave(self, record: Record) -> None:
        """A record that becomes another patient's leaves its item; a frozen one gives the record ID free, too."""
        self._note_vain_withdrawal(record)
        own = (record.data_source, record.fields.get(RECORD_ID_FIELD))
        items = self._items[record.patient_id]
        for place, item in enumerate(items):
            frozen = item.touched or item.values[STATUS] not in (SCHEDULED, CANCELED)
            if item.id == record.item_id and frozen and own[1] and _owner(item) == own:
                items[place] = Item(item.id, {**item.values, RECORD_ID_FIELD: None})
                self._rows.release(item.id)
                self.trail.note("changed", item.id, record.patient_id, {RECORD_ID_FIELD: [own[1], None]})

    def _note_vain_withdrawal(self, record: Record) -> None:
        """Audit that a source takes back a record whose item is the scanner's already."""
        for item in self._items[record.patient_id]:
            if item.touched and item.id == record.item_id and record.state == LIVE:
                self.trail.note_conflict(
                    item, Conflict(STATUS, SCANNER, record.data_source, CANCELED), item.values[STATUS]
                )

    def _decide(self, patient: str) -> None:
        records = self._patients[patient].values()
        claims = [
            Claim(record.id, record.data_source, record.record_key, record.fields, record.item_id)
            for record in records
            if record.state == LIVE
        ]
        former: dict[int, frozenset[str]] = {}
        for record in records:
            if record.state == WITHDRAWN and record.item_id is not None:
                former[record.item_id] = former.get(record.item_id, frozenset()) | {record.data_source}
        decisions, cancelled = decide_group(claims, self._items[patient], former, self.rules)
        decisions, abandoned = drop_abandoned(decisions, self.rules)
        for item in (*cancelled, *abandoned):
            self._cancel(item)
        for decision in decisions:
            self._apply(decision)

    def _apply(self, decision: ItemDecision) -> None:
        item_id = decision.item.id if decision.item else self._next_item_id
        for claim in decision.claims:
            if claim.item_id != item_id:
                record = self.records[claim.id]
                record.item_id = item_id
                record.changed = True
        if decision.item and decision.item.touched:
            self._note_vain_wishes(decision.item, decision.conflicts)
            return
        values: dict[str, object] = dict(decision.values)
        for name in _GENERATED_IDS:
            values.setdefault(name, str(item_id))
        if decision.conflicts:
            values["known_conflicts"] = encode([_as_list(conflict) for conflict in decision.conflicts])
        if decision.item is None:
            self._next_item_id += 1
            self._insert(item_id, values)
        else:
            self._update(decision.item, values)
        self._report_conflicts(decision, item_id)

    def _insert(self, item_id: int, values: dict[str, object]) -> None:
        self._rows.insert(item_id, values, self.now)
        self.events.inserted.append(item_id)
        # Its values are the item's own, less what later rows say: to write them twice would double the cost of an item.
        self.trail.note("created", item_id, values["patient_id"], {})

    def _update(self, item: Item, values: dict[str, object]) -> None:
        changes = self._rows.update(item, {**_NOTHING_GIVEN, **values}, self.now)
        if not set(changes) - NOT_AUDITED:
            return
        if changes.get(STATUS, ("", ""))[0] == CANCELED:
            action, ids = "revived", self.events.inserted
        elif changes.get(STATUS, ("", ""))[1] == CANCELED:
            action, ids = "cancelled", self.events.cancelled
        else:
            action, ids = "changed", self.events.changed
        ids.append(item.id)
        self.trail.note(action, item.id, item.values["patient_id"], changes)

    def _cancel(self, item: Item) -> None:
        changes = self._rows.update(item, {STATUS: CANCELED, RECORD_ID_FIELD: None}, self.now)
        self.events.cancelled.append(item.id)
        self.trail.note("cancelled", item.id, item.values["patient_id"], changes)

    def _report_conflicts(self, decision: ItemDecision, item_id: int) -> None:
        if not decision.conflicts:
            return
        known = _known_conflicts(decision.item) if decision.item else []
        for conflict in decision.conflicts:
            if _as_list(conflict) not in known:
                self.events.conflicts.append((item_id, conflict))
                item = Item(item_id, decision.values)
                self.trail.note_conflict(item, conflict, decision.values[conflict.field])

    def _note_vain_wishes(self, item: Item, wishes: Iterable[Conflict]) -> None:
        """Audit, once each, what sources say otherwise about an item that is the scanner's."""
        known = _known_conflicts(item)
        told = {(name, loser, lost) for name, _, loser, lost in known}
        new = [one for one in wishes if (one.field, one.loser, one.lost_value) not in told]
        for conflict in new:
            self.events.conflicts.append((item.id, conflict))
            self.trail.note_conflict(item, conflict, item.values[conflict.field])
        if new:
            self._rows.updates.append((item.id, {"known_conflicts": encode([*known, *map(_as_list, new)])}))


def _owner(item: Item) -> tuple[object, object]:
    return item.values["data_source"], item.values[RECORD_ID_FIELD]


def _as_list(conflict: Conflict) -> list[str]:
    return [conflict.field, conflict.winner, conflict.loser, conflict.lost_value]


def _known_conflicts(item: Item) -> list[list[str]]:
    known: list[list[str]] = json.loads(str(item.values["known_conflicts"] or "[]"))
    return known


def _refusal(record: Record) -> Rejection:
    column = "accession_number" if "accession_number" in record.fields else "study_instance_uid"
    return Rejection(record.record_key, column, "belongs to another patient; correct it in one of the two records")
