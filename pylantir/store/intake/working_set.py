"""Holds the records and items of some patients during one transaction and writes the changes back in bulk.

Lives in the writer. Batches, ends of snapshots and operators' commands all change records here, so every change of an
item goes through the same decision. Nothing is logged before the COMMIT: see `events`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import replace
from functools import cache
from typing import Any

from sqlalchemy import Connection

from pylantir.entry import CANCELED, COMPLETED, DISCONTINUED, RECORD_ID_FIELD, SCHEDULED
from pylantir.store.decide.claims import (
    SCANNER,
    STATUS,
    Conflict,
    Item,
    Patient,
    Rules,
)
from pylantir.store.decide.differences import find_differences
from pylantir.store.decide.evidence import ISSUER, is_another_patient
from pylantir.store.decide.identifiers import is_idle
from pylantir.store.decide.moves import find_begun, pair_moves
from pylantir.store.decide.reconcile import decide_group
from pylantir.store.decide.records import IDENTIFIERS, LIVE, PENDING, REFUSED, WITHDRAWN, Record
from pylantir.store.decide.standing import drop_abandoned
from pylantir.store.intake.holders import find_refused_identifiers
from pylantir.store.intake.quarantine import remove_rejections
from pylantir.store.intake.working.changes import AuditTrail
from pylantir.store.intake.working.corrections import find_corrections
from pylantir.store.intake.working.differences import DifferenceChanges
from pylantir.store.intake.working.items import Events, ItemChanges
from pylantir.store.intake.working.memory import Memory
from pylantir.store.intake.working.owners import judge_claimants, write_verdicts
from pylantir.store.intake.working.taken_uids import TakenUids, ask_taken_uids
from pylantir.store.schema.facts import Facts, ask_facts
from pylantir.store.schema.writers_lock import LifeSigns


class WorkingSet:
    """Records and items of the patients that a transaction touches.

    Args:
        connection: In a writing transaction.
        rules: Priorities and the matching rule.
        actor: Who makes the changes, for the audit log.
        now: The time.
        facts: What the transaction knows of the database; None: nothing yet.
    """

    def __init__(
        self, connection: Connection, rules: Rules, *, actor: str, now: str, facts: Facts | None = None
    ) -> None:
        self.connection = connection
        self.rules = rules
        self.now = now
        # They come with the next answer.
        self._facts = cache(ask_facts(connection, rules.version) if facts is None else lambda: facts)
        self._memory = Memory(connection, rules, self._facts)
        self._dirty: set[str] = set()
        self._identifiers: set[tuple[str, str]] = set()
        self._left: list[Record] = []
        self._came: list[Record] = []
        self._added_records = 0
        self._life = LifeSigns(connection)
        self.trail = AuditTrail(actor, now)
        self._changes = ItemChanges(connection, self.records, lambda: self._facts().next_item_id, self.trail, now)
        self._differences = DifferenceChanges(self.trail, now)

    @property
    def events(self) -> Events:
        """The changes to items, for the log and the counts."""
        return self._changes.events

    @property
    def records(self) -> Mapping[int, Record]:
        """The records in memory, by id."""
        return self._memory.records

    def load(self, patients: Iterable[str]) -> None:
        """Read the records and items of patients who are not in memory yet."""
        self._memory.load(patients)

    def items(self) -> dict[int, Item]:
        """Return all items of the loaded patients, by id."""
        return self._memory.items()

    def records_of(self, patient: str) -> Iterable[Record]:
        """Return all records of a loaded patient, in every state."""
        return self._memory.records_of(patient)

    def add(self, data_source: str, record_key: str, fields: Mapping[str, str], state: str) -> Record:
        """Add a new record; its patient must be loaded."""
        number = self._facts().next_record_id + self._added_records
        record = Record(
            number, data_source, record_key, state, None, self.now, self.now, None, None, 0, fields
        )  # fmt: skip
        self._added_records += 1
        self._memory.put(record)
        self._came.append(record)
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
            was_idle = is_idle(record, {one.id: one for one in self._memory.items_of[record.patient_id]})
            record.describe(fields, self.now)
            self._dirty.add(record.patient_id)
            self._identifiers.update(set(before) ^ set(record.identifiers()))
            if was_idle:
                # An exam that an operator has cancelled claims its numbers again once it is booked for another day.
                self._identifiers.update(before)
            if issuer != fields.get(ISSUER):
                self._identifiers.update(before)
                self._free_touched_item(record)
            return
        self.touch(record)
        self._memory.take(record)
        if another or (
            record.patient_id != fields["patient_id"] and not self._memory.take_along(record, record, fields)
        ):
            self._left.append(replace(record))
            self._came.append(record)
            # Whatever the item keeps for its patient is not this record's any more.
            record.item_id = None
        record.describe(fields, self.now)
        self._memory.put(record)
        if record.state == REFUSED:
            # The record may own the number that it claims now: `write` decides again.
            self.enter(record, LIVE)
        self.touch(record)

    def replace(self, gone: Record, arrived: Record) -> None:
        """Let a new record replace one that its source no longer has; it takes the item, under its own patient ID."""
        if gone.patient_id == arrived.patient_id or self._memory.take_along(gone, arrived, arrived.fields):
            self.touch(arrived)
            arrived.item_id, gone.item_id = gone.item_id, None
            arrived.changed = True
        self.enter(gone, WITHDRAWN)

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
        item = self._memory.item_of(record)
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
        self._dirty.update(self._memory.patients)
        for record in self.records.values():
            self.touch(record)

    def open_again(self, item_id: int) -> None:
        """Let an item whose exam is open again go with the first of its records, whatever patient ID that has."""
        item = self.items().get(item_id)
        if item is not None and item.values[STATUS] in (SCHEDULED, DISCONTINUED):
            self._memory.give_to_first({item_id: item})

    def free(self, item: Mapping[Any, Any]) -> None:
        """Mark for a new decision the identifiers of an item that another patient got or that is gone."""
        self._identifiers.update((column, str(item[column])) for column in IDENTIFIERS if item[column])

    def _free_touched_item(self, record: Record) -> None:
        """Mark the identifiers of a touched item one of whose records names another issuer now, or is gone."""
        for item in self._memory.items_of[record.patient_id]:
            if item.touched and item.id == record.item_id:
                self.free(item.values)

    def recheck_refused(self, source: str) -> None:
        """Mark the refused records of a source for a new decision: the reason for the refusal may be gone."""
        self._identifiers |= find_refused_identifiers(self.connection, source)

    def write(self) -> None:
        """Decide about all marked patients and write the changes."""
        self._settle_left()
        asked = self._ask_taken_uids()
        verdicts = judge_claimants(
            self.connection, self._memory, self.rules, self._identifiers, self.now[:10].replace("-", "")
        )
        unchanged = [one for one in verdicts if not one.is_new]
        verdicts = [one for one in verdicts if one.is_new]
        for one in verdicts:
            self.enter(one.record, one.state)
        self._dirty.update(one.record.patient_id for one in verdicts)
        self._dirty |= self._memory.gained
        if asked is None or not asked.covers(self._dirty):
            # More patients have come in since.
            asked = self._ask_taken_uids()
        taken = asked.find(self._memory) if asked else {}
        for patient in sorted(self._dirty):
            self._life.give()
            self._decide(patient, taken.get(patient, {}))
        self._settle_corrections()
        self._differences.write(self.connection)
        self.events.differences += self._differences.new
        self._changes.rows.write(self.connection, self.records.values(), self.trail)
        write_verdicts(self.connection, verdicts, unchanged, self.records, self.now)

    def _settle_left(self) -> None:
        """Give the items of records that are about other patients now to the records that have taken their place.

        The source has given its records other keys: the numbers of the rows, after one was inserted.
        """
        came = [one for one in self._came if one.state in (LIVE, PENDING) and one.item_id is None]
        moves = pair_moves(came, self._left, find_begun(self._left, self.items()), self.rules) if self._left else []
        for gone, arrived in moves:
            arrived.item_id, arrived.changed = gone.item_id, True
            self.enter(arrived, LIVE)
        followed = {gone.id for gone, _ in moves}
        for record in self._left:
            if record.id not in followed:
                self._note_vain_withdrawal(record)
            self._release_record_id(record)
        self._left, self._came = [], []

    def _release_record_id(self, record: Record) -> None:
        """Let a touched item give up the record ID of a record that is about another patient now."""
        own = (record.data_source, record.fields.get(RECORD_ID_FIELD))
        items = self._memory.items_of[record.patient_id]
        for place, item in enumerate(items):
            frozen = item.touched or item.values[STATUS] not in (SCHEDULED, CANCELED)
            owner = (item.values["data_source"], item.values[RECORD_ID_FIELD])
            if item.id == record.item_id and frozen and own[1] and owner == own:
                items[place] = self._changes.release_record_id(item, record.patient_id)

    def _note_vain_withdrawal(self, record: Record) -> None:
        """Audit that a source withdraws a record whose item a scanner has already touched."""
        for item in self._memory.items_of[record.patient_id]:
            if item.touched and item.id == record.item_id and record.state == LIVE:
                self.trail.note_conflict(
                    item, Conflict(STATUS, SCANNER, record.data_source, CANCELED), item.values[STATUS]
                )

    def _ask_taken_uids(self) -> TakenUids | None:
        has_supplied = self._facts().has_supplied_uids
        return ask_taken_uids(self.connection, self._memory, self._dirty, has_supplied=has_supplied)

    def _decide(self, patient: str, taken: Mapping[str, Set[Patient]]) -> None:
        claims, former = self._memory.claims_of(patient), self._memory.former_sources(patient)
        performed = self._memory.performed.get(patient, ())
        decided = decide_group(claims, self._memory.items_of[patient], former, self.rules, performed, taken)
        standing, abandoned = drop_abandoned(decided.items, self.rules)
        decided = decided.only(standing)
        for item in (*decided.cancelled, *abandoned):
            self._changes.cancel(item)
        ids = [self._changes.apply(decision) for decision in decided.items]
        stored = self._memory.differences.pop(patient, [])
        if len(claims) > 1 or self._memory.items_of[patient] or stored:
            found = find_differences(decided, ids, [one.entry for one in stored])
            self._differences.settle(patient, stored, found)

    def _settle_corrections(self) -> None:
        """Bring up to date what is told about exams whose patient ID only one of two sources has corrected."""
        stored = self._memory.corrections.values()
        found = find_corrections(self._memory.corrected, stored, self._memory, self.rules)
        for patient, entries in found.items():
            self._differences.settle(patient, [one for one in stored if one.patient_id == patient], entries)
        self._memory.corrections, self._memory.corrected = {}, []
