"""Holds the records and items of some patients during one transaction and writes the changes back in bulk.

Lives in the writer. Batches, ends of snapshots and operators' commands all change records here, so every change of an
item goes through the same decision. Nothing is logged before the COMMIT: see `events`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection

from pylantir.entry import CANCELED, COMPLETED, DISCONTINUED, RECORD_FIELDS, RECORD_ID_FIELD, SCHEDULED
from pylantir.store.decide.claims import (
    SCANNER,
    STATUS,
    STUDY_UID,
    Claim,
    Conflict,
    Item,
    ItemDecision,
    Patient,
    Performed,
    Rules,
    make_study_uid,
)
from pylantir.store.decide.differences import Difference, find_corrected, find_differences
from pylantir.store.decide.evidence import ISSUER, is_another_patient
from pylantir.store.decide.identifiers import Holder, Identifier, find_obstacle, find_owners, index_claims, is_idle
from pylantir.store.decide.reconcile import decide_group, is_frozen
from pylantir.store.decide.records import IDENTIFIERS, LIVE, REFUSED, WITHDRAWN, Record
from pylantir.store.decide.standing import drop_abandoned
from pylantir.store.intake.changes import NOT_AUDITED, AuditTrail, RowChanges
from pylantir.store.intake.differences import DifferenceChanges, StoredDifference, read_differences
from pylantir.store.intake.quarantine import refuse_record, remove_rejections
from pylantir.store.intake.records import (
    find_claiming_patients,
    find_performed,
    find_refused_identifiers,
    find_supplied,
    has_supplied_uids,
    load_claimants,
    next_ids,
    read_items,
    read_items_of,
    read_records,
    relink_reports,
)
from pylantir.store.schema.engine import LifeSigns

_NOTHING_GIVEN = dict.fromkeys(RECORD_FIELDS)
_GENERATED_IDS = ("scheduled_procedure_step_id", "requested_procedure_id")


@dataclass(slots=True)
class Events:
    """The changes of a transaction to items, for the log and the counts."""

    inserted: list[int] = field(default_factory=list)
    changed: list[int] = field(default_factory=list)
    cancelled: list[int] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)


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
        self._next_record_id, self._next_item_id = next_ids(connection, rules.version)
        self._rows = RowChanges()
        self._life = LifeSigns(connection)
        self.trail = AuditTrail(actor, now)
        self._performed: dict[str, list[Performed]] = {}
        self._stored_differences: dict[str, list[StoredDifference]] = {}
        self._stored_corrections: dict[int, StoredDifference] = {}
        self._corrections: list[tuple[Record, Record]] = []
        self._differences = DifferenceChanges(self.trail, now)

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
        self._load_corrected(missing)
        self._give_to_corrected(missing)
        self._performed |= find_performed(self.connection, missing)
        self._load_differences(missing)

    def _load_differences(self, patients: Iterable[str]) -> None:
        """Read the entries of `conflicts`; of those between two patients, load the other one as well."""
        others: set[str] = set()
        for one in read_differences(self.connection, patients):
            if one.entry.other_patient is None:
                self._stored_differences.setdefault(one.patient_id, []).append(one)
            else:
                self._stored_corrections[one.id] = one
                others |= {one.patient_id, one.entry.other_patient}
        if others:
            self.load(others)

    def _load_corrected(self, patients: Iterable[str]) -> None:
        """Load completed items whose records have a new patient ID: these records keep their items."""
        foreign: dict[int, str] = {}
        for patient in patients:
            own = {item.id for item in self._items[patient]}
            for record in self._patients[patient].values():
                if record.state in (LIVE, REFUSED) and record.item_id is not None and record.item_id not in own:
                    foreign[record.item_id] = patient
        for number, item in read_items_of(self.connection, foreign).items() if foreign else ():
            if is_frozen(item):
                self._items[foreign[number]].append(item)

    def _give_to_corrected(self, patients: Iterable[str]) -> None:
        """Let items that are open again follow their records to a patient ID that was corrected during the exam."""
        open_again: dict[int, Item] = {}
        for patient in patients:
            claimed = {record.item_id for record in self.records_of(patient) if record.state == LIVE}
            for item in self._items[patient]:
                if item.values[STATUS] in (SCHEDULED, DISCONTINUED) and item.id not in claimed:
                    open_again[item.id] = item
        for number, patient in find_claiming_patients(self.connection, open_again) if open_again else ():
            if patient not in self._patients:
                self.load([patient])
            former = self._items[str(open_again[number].values["patient_id"])]
            former[:] = [one for one in former if one.id != number]
            if all(one.id != number for one in self._items[patient]):
                self._items[patient].append(open_again[number])
            self._dirty.add(patient)

    def items(self) -> dict[int, Item]:
        """Return all items of the loaded patients, by id."""
        return {item.id: item for items in self._items.values() for item in items}

    def records_of(self, patient: str) -> Iterable[Record]:
        """Return all records of a loaded patient, in every state."""
        return self._patients[patient].values()

    def add(self, data_source: str, record_key: str, fields: Mapping[str, str], state: str) -> Record:
        """Add a new record; its patient must be loaded."""
        record = Record(
            self._next_record_id, data_source, record_key, state, None, self.now, self.now, None, None, 0, fields
        )  # fmt: skip
        self._next_record_id += 1
        self.records[record.id] = record
        self._patients[record.patient_id][record.id] = record
        self.touch(record)
        return record

    def change(self, record: Record, fields: Mapping[str, str]) -> None:
        """Change a record's values; its old and its new patient must be loaded.

        A record that is about another patient now leaves its item, but a corrected patient ID takes the item along.
        """
        another = is_another_patient(record.fields, fields)
        if record.state == LIVE and record.patient_id == fields["patient_id"] and not another:
            # If the record still claims the number for the same issuer's patient, nobody else gets it.
            before, issuer = record.identifiers(), record.fields.get(ISSUER)
            record.describe(fields, self.now)
            self._dirty.add(record.patient_id)
            self._identifiers.update(set(before) ^ set(record.identifiers()))
            if issuer != fields.get(ISSUER):
                self._identifiers.update(before)
                self._free_touched_item(record)
            return
        self.touch(record)
        del self._patients[record.patient_id][record.id]
        if another or (record.patient_id != fields["patient_id"] and not self._take_along(record, record, fields)):
            self._leave(record)
            # Whatever the item keeps for its patient is not this record's any more.
            record.item_id = None
        record.describe(fields, self.now)
        self._patients[record.patient_id][record.id] = record
        if record.state == REFUSED:
            # The record may own the number that it claims now: `settle_identifiers` decides again.
            self.enter(record, LIVE)
        self.touch(record)

    def replace(self, gone: Record, arrived: Record) -> None:
        """Let a new record replace one that its source no longer has; it takes the item, under its own patient ID."""
        if gone.patient_id == arrived.patient_id or self._take_along(gone, arrived, arrived.fields):
            self.touch(arrived)
            arrived.item_id, gone.item_id = gone.item_id, None
            arrived.changed = True
        self.enter(gone, WITHDRAWN)

    def _take_along(self, record: Record, corrected: Record, fields: Mapping[str, str]) -> bool:
        """Move an item to its record's corrected patient ID; a completed item keeps its patient ID and its record.

        Args:
            record: The record that has the item.
            corrected: The record that has the corrected patient ID from now on; it may be the same one.
            fields: What the latter gives.
        """
        items = self._items[record.patient_id]
        item = next((one for one in items if one.id == record.item_id), None)
        if item is None:
            return False
        if not is_frozen(item):
            rank = self.rules.rank(record.data_source, record.record_key)
            others = [
                one for one in self.records_of(record.patient_id)
                if one.state == LIVE and one.item_id == record.item_id and one is not record
            ]  # fmt: skip
            self._corrections += [(one, corrected) for one in others]
            stronger = any(self.rules.rank(one.data_source, one.record_key) < rank for one in others)
            if stronger or (others and record.state == REFUSED):
                return False
            items.remove(item)
        if all(one.id != item.id for one in self._items[fields["patient_id"]]):
            self._items[fields["patient_id"]].append(item)
        return True

    def enter(self, record: Record, state: str) -> None:
        """Change a record's state."""
        if record.state == state:
            return
        self._life.give()
        self.touch(record)
        if state == WITHDRAWN:
            self._note_vain_withdrawal(record)
            self._free_touched_item(record)
            if record.state == REFUSED:
                remove_rejections(self.connection, record.data_source, [record.record_key])
        elif state == LIVE and any(
            other.state == LIVE and (other.data_source, other.item_id) == (record.data_source, record.item_id)
            for other in self.records_of(record.patient_id)
        ):
            # Another record of the source has taken the item over meanwhile.
            record.item_id = None
        elif record.state == WITHDRAWN and self._is_done_on_another_day(record):
            # It is booked again.
            record.item_id = None
        record.enter(state, self.now)

    def _is_done_on_another_day(self, record: Record) -> bool:
        item = next((one for one in self._items[record.patient_id] if one.id == record.item_id), None)
        return (
            item is not None
            and item.touched
            and item.values[STATUS] == COMPLETED
            and item.values["scheduled_start_date"] != record.fields["scheduled_start_date"]
        )

    def touch(self, record: Record) -> None:
        """Mark the record's patient and identifiers for a new decision."""
        self._dirty.add(record.patient_id)
        self._identifiers.update(record.identifiers())

    def touch_all(self) -> None:
        """Mark all loaded patients for a new decision."""
        self._dirty.update(self._patients)
        for record in self.records.values():
            self.touch(record)

    def free(self, item: Mapping[Any, Any]) -> None:
        """Mark for a new decision the identifiers of an item that another patient got or that is gone."""
        self._identifiers.update((column, str(item[column])) for column in IDENTIFIERS if item[column])

    def _free_touched_item(self, record: Record) -> None:
        """Mark the identifiers of a touched item one of whose records names another issuer now, or is gone."""
        for item in self._items[record.patient_id]:
            if item.touched and item.id == record.item_id:
                self.free(item.values)

    def recheck_refused(self, source: str) -> None:
        """Mark the refused records of a source for a new decision: the reason for the refusal may be gone."""
        self._identifiers |= find_refused_identifiers(self.connection, source)

    def write(self) -> None:
        """Decide about all marked patients and write the changes."""
        moved = self._settle_identifiers()
        self._dirty.update(record.patient_id for record, _ in moved)
        supplied = self._find_supplied_uids()
        for patient in sorted(self._dirty):
            self._life.give()
            self._decide(patient, supplied.get(patient, {}))
        self._settle_corrections()
        self._differences.write(self.connection)
        self.events.differences += self._differences.new
        self._rows.write(self.connection, self.records.values(), self.trail)
        for record, obstacle in moved:
            if obstacle is None:
                remove_rejections(self.connection, record.data_source, [record.record_key])
            else:
                column, holder = obstacle
                if holder.item_id is None and holder.record_id is not None:
                    # The item was made just now.
                    holder = replace(holder, item_id=self.records[holder.record_id].item_id)
                refuse_record(self.connection, record, column, holder, self.now)

    def _settle_identifiers(self) -> list[tuple[Record, tuple[str, Holder] | None]]:
        """Find the owners of the marked identifiers; return the records that they refuse or admit."""
        owners: dict[Identifier, Holder | None] = {}
        claims: dict[Identifier, list[Record]] = {}
        waiting = set(self._identifiers)
        today = self.now[:10].replace("-", "")
        while waiting:
            started = load_claimants(self.connection, self.records, self.items, self.load, self.rules, waiting, today)
            claims = index_claims(self.records.values(), self.items())
            started = self._with_corrected_patients(started)
            owners |= find_owners(waiting, claims, started, self.rules, self._find_members(started))
            # A record whose state may change must also be judged by its other identifier.
            waiting = {
                other for pair in waiting for record in claims.get(pair, ()) for other in record.identifiers()
            } - owners.keys()
        moved = []
        for record in {record.id: record for pair in owners for record in claims.get(pair, ())}.values():
            obstacle = find_obstacle(record, owners)
            state = LIVE if obstacle is None else REFUSED
            if record.state != state:
                self.enter(record, state)
                moved.append((record, obstacle))
        return moved

    def _find_members(self, started: Mapping[Identifier, Holder]) -> Mapping[int, list[Record]]:
        """Return the live records of the items that keep identifiers."""
        members: dict[int, list[Record]] = {holder.item_id: [] for holder in started.values() if holder.item_id}
        for record in self.records.values() if members else ():
            if record.state == LIVE and record.item_id in members:
                members[record.item_id].append(record)
        return members

    def _with_corrected_patients(self, started: Mapping[Identifier, Holder]) -> dict[Identifier, Holder]:
        """Return the items that keep identifiers, under the patient ID to which this transaction corrects them.

        Such an item goes with the corrected record only: the others that it had are another patient's now.
        """
        homes = {item.id: patient for patient, items in self._items.items() for item in items if not is_frozen(item)}
        return {
            pair: holder if home == holder.patient["patient_id"]
            else replace(holder, patient={**holder.patient, "patient_id": home}, started=False)
            for pair, holder in started.items()
            for home in [homes.get(holder.item_id or 0, holder.patient["patient_id"])]
        }  # fmt: skip

    def _leave(self, record: Record) -> None:
        """Separate a record from its item because the patient changed; a touched item also gives up the record ID."""
        self._note_vain_withdrawal(record)
        own = (record.data_source, record.fields.get(RECORD_ID_FIELD))
        items = self._items[record.patient_id]
        for place, item in enumerate(items):
            frozen = item.touched or item.values[STATUS] not in (SCHEDULED, CANCELED)
            if item.id == record.item_id and frozen and own[1] and _owner(item) == own:
                items[place] = Item(item.id, {**item.values, RECORD_ID_FIELD: None})
                self._rows.release(item.id)
                self.trail.note("changed", item.id, record.patient_id, {RECORD_ID_FIELD: [own[1], None]})
        # What the item keeps for its patient it does not keep for the other one.
        record.item_id = None

    def _note_vain_withdrawal(self, record: Record) -> None:
        """Audit that a source withdraws a record whose item a scanner has already touched."""
        for item in self._items[record.patient_id]:
            if item.touched and item.id == record.item_id and record.state == LIVE:
                self.trail.note_conflict(
                    item, Conflict(STATUS, SCANNER, record.data_source, CANCELED), item.values[STATUS]
                )

    def _find_supplied_uids(self) -> Mapping[str, Mapping[str, Set[Patient]]]:
        """For each marked patient: the study UIDs that would be generated but that somebody has already, and who."""
        if not has_supplied_uids(self.connection) and not any(STUDY_UID in one.fields for one in self.records.values()):
            return {}
        made = {
            patient: {
                *(make_study_uid(one.data_source, one.record_key, patient) for one in self.records_of(patient)),
                *(str(item.values["generated_study_uid"]) for item in self._items[patient] if not item.touched),
            }
            for patient in self._dirty
        }  # fmt: skip
        supplied = find_supplied(self.connection, {uid for uids in made.values() for uid in uids}, self.records)
        return {
            patient: {uid: supplied[uid] for uid in uids & supplied.keys()}
            for patient, uids in made.items() if not supplied.keys().isdisjoint(uids)
        }  # fmt: skip

    def _decide(self, patient: str, supplied: Mapping[str, Set[Patient]]) -> None:
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
        performed = self._performed.get(patient, ())
        decided = decide_group(claims, self._items[patient], former, self.rules, performed, supplied)
        standing, abandoned = drop_abandoned(decided.items, self.rules)
        decided = decided.only(standing)
        for item in (*decided.cancelled, *abandoned):
            self._cancel(item)
        ids = [self._apply(decision) for decision in decided.items]
        stored = self._stored_differences.pop(patient, [])
        if len(claims) > 1 or self._items[patient] or stored:
            found = find_differences(decided, ids, [one.entry for one in stored])
            self._differences.settle(patient, stored, found)

    def _settle_corrections(self) -> None:
        """Bring up to date what is told about exams whose patient ID only one of two sources has corrected."""
        if not (self._corrections or self._stored_corrections):
            return
        by_key = {(one.data_source, one.record_key): one for one in self.records.values()}
        stored: dict[str, list[StoredDifference]] = {}
        pairs = [list(pair) for pair in self._corrections]
        for told in self._stored_corrections.values():
            stored.setdefault(told.patient_id, []).append(told)
            keys = zip(told.entry.sources, told.entry.records, strict=True)
            pairs.append([by_key[key] for key in keys if key in by_key])
        items, found = self.items(), {patient: dict[object, Difference]() for patient in stored}
        for pair in pairs:
            pair.sort(key=lambda one: self.rules.rank(one.data_source, one.record_key))
            if len(pair) == 2 and not any(is_idle(one, items) for one in pair) and (entry := find_corrected(*pair)):
                found.setdefault(pair[1].patient_id, {})[entry.place] = entry
        for patient, entries in found.items():
            self._differences.settle(patient, stored.get(patient, ()), [*entries.values()])
        self._stored_corrections, self._corrections = {}, []

    def _apply(self, decision: ItemDecision) -> int:
        """Apply the decision about an item; return the item's id."""
        item_id = decision.item.id if decision.item else self._next_item_id
        for claim in decision.claims:
            if claim.item_id != item_id:
                record = self.records[claim.id]
                record.item_id = item_id
                record.changed = True
        values: dict[str, object] = dict(decision.values)
        if decision.item is None:
            self._next_item_id += 1
            if "exam_ended_on" in values:
                values["scanner_touched"] = 1
                relink_reports(self.connection, str(values["patient_id"]), str(values[STUDY_UID]), item_id)
            self._insert(item_id, self._with_ids(item_id, values))
        elif STATUS in values:
            self._update(decision.item, {**_NOTHING_GIVEN, **self._with_ids(item_id, values), "scanner_touched": 0})
        elif values:
            self._update(decision.item, values)
        return item_id

    @staticmethod
    def _with_ids(item_id: int, values: Mapping[str, object]) -> dict[str, object]:
        return {**dict.fromkeys(_GENERATED_IDS, str(item_id)), **values}

    def _insert(self, item_id: int, values: dict[str, object]) -> None:
        self._rows.insert(item_id, values, self.now)
        self.events.inserted.append(item_id)
        # No values: the item has them, and later rows tell the changes. Writing them twice would double an item's cost.
        self.trail.note("created", item_id, values["patient_id"], {})

    def _update(self, item: Item, values: dict[str, object]) -> None:
        changes = self._rows.update(item, values, self.now)
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
        changes = self._rows.update(item, {STATUS: CANCELED, RECORD_ID_FIELD: None, "scanner_touched": 0}, self.now)
        self.events.cancelled.append(item.id)
        self.trail.note("cancelled", item.id, item.values["patient_id"], changes)


def _owner(item: Item) -> tuple[object, object]:
    return item.values["data_source"], item.values[RECORD_ID_FIELD]
