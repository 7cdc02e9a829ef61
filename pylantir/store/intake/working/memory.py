"""Reads the records and items of patients, and knows which items go with records whose patient ID was corrected.

Lives in the writer, for one transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from sqlalchemy import Connection

from pylantir.entry import DISCONTINUED, SCHEDULED
from pylantir.store.decide.claims import FORMER_UIDS, STATUS, Claim, Item, Patient, Performed, Rules
from pylantir.store.decide.evidence import ISSUER
from pylantir.store.decide.reconcile import is_frozen
from pylantir.store.decide.records import LIVE, REFUSED, WITHDRAWN, Record
from pylantir.store.intake.records import (
    ask_items,
    ask_performed,
    ask_records,
    find_claiming_patients,
    read_items_of,
)
from pylantir.store.intake.working.differences import StoredDifference, ask_differences
from pylantir.store.schema.facts import Facts


class Memory:
    """Records and items of some patients.

    Args:
        connection: In a transaction.
        rules: The order of priority.
        facts: Returns what the transaction knows of the database.

    Attributes:
        records: All records by id.
        patients: Patient ID -> its records by id.
        items_of: Patient ID -> its items, those that a corrected record has brought along included.
        performed: Patient ID -> the steps of completed exams whose items are gone.
        differences: Patient ID -> the entries of `conflicts`.
        corrections: The entries of `conflicts` between two patients, by id.
        gained: Patients who got or lost an item while they were read: they need a decision.
        corrected: Pairs of records that had one item, until the patient ID of the second one was corrected.
    """

    def __init__(self, connection: Connection, rules: Rules, facts: Callable[[], Facts]) -> None:
        self.records: dict[int, Record] = {}
        self.patients: dict[str, dict[int, Record]] = {}
        self.items_of: dict[str, list[Item]] = {}
        self.performed: dict[str, list[Performed]] = {}
        self.differences: dict[str, list[StoredDifference]] = {}
        self.corrections: dict[int, StoredDifference] = {}
        self.gained: set[str] = set()
        self.corrected: list[tuple[Record, Record]] = []
        self._connection = connection
        self._rules = rules
        self._facts = facts

    def load(self, patients: Iterable[str]) -> None:
        """Read the records and items of patients who are not in memory yet."""
        missing = [patient for patient in dict.fromkeys(patients) if patient not in self.patients]
        for patient in missing:
            self.patients[patient] = {}
            self.items_of[patient] = []
        if not missing:
            return
        records, items = ask_records(self._connection, missing), ask_items(self._connection, missing)
        performed = ask_performed(self._connection, missing, self._facts().done_exams_key)
        differences = ask_differences(self._connection, missing)
        for record in records:
            self.records[record.id] = record
            self.patients[record.patient_id][record.id] = record
        for item in items:
            self.items_of[str(item.values["patient_id"])].append(item)
        self._load_corrected(missing)
        self._give_to_corrected(missing)
        self.performed |= performed()
        self._take_differences(differences())

    def items(self) -> dict[int, Item]:
        """Return all items of the loaded patients, by id."""
        return {item.id: item for items in self.items_of.values() for item in items}

    def moved(self) -> list[tuple[str, Patient]]:
        """Return the generated study UIDs of loaded items that have moved to another patient ID, and whose they are."""
        return [
            (str(item.values["generated_study_uid"]), Patient(patient, str(item.values[ISSUER] or "") or None))
            for patient, items in self.items_of.items() for item in items
            if item.values["patient_id"] != patient or item.values[FORMER_UIDS]
        ]  # fmt: skip

    def records_of(self, patient: str) -> Iterable[Record]:
        """Return all records of a loaded patient, in every state."""
        return self.patients[patient].values()

    def claims_of(self, patient: str) -> list[Claim]:
        """Return the live records of a loaded patient, as the decision takes them."""
        return [
            Claim(record.id, record.data_source, record.record_key, record.fields, record.item_id)
            for record in self.records_of(patient)
            if record.state == LIVE
        ]

    def former_sources(self, patient: str) -> dict[int, frozenset[str]]:
        """Return item id -> the sources that have withdrawn their records of it."""
        former: dict[int, frozenset[str]] = {}
        for record in self.records_of(patient):
            if record.state == WITHDRAWN and record.item_id is not None:
                former[record.item_id] = former.get(record.item_id, frozenset()) | {record.data_source}
        return former

    def item_of(self, record: Record) -> Item | None:
        """Return a record's item, if it is the record's patient's."""
        return next((item for item in self.items_of[record.patient_id] if item.id == record.item_id), None)

    def put(self, record: Record) -> None:
        """Add a record to those of its patient."""
        self.records[record.id] = record
        self.patients[record.patient_id][record.id] = record

    def take(self, record: Record) -> None:
        """Take a record from those of its patient, whose ID is about to change."""
        del self.patients[record.patient_id][record.id]

    def take_along(self, record: Record, corrected: Record, fields: Mapping[str, str]) -> bool:
        """Move an item to its record's corrected patient ID; a completed item keeps its patient ID and its record.

        Args:
            record: The record that has the item.
            corrected: The record that has the corrected patient ID from now on; it may be the same one.
            fields: What the latter gives.
        """
        item = self.item_of(record)
        if item is None:
            return False
        if not is_frozen(item):
            rank = self._rules.rank(record.data_source, record.record_key)
            others = [
                one for one in self.records_of(record.patient_id)
                if one.state == LIVE and one.item_id == record.item_id and one is not record
            ]  # fmt: skip
            self.corrected += [(one, corrected) for one in others]
            stronger = any(self._rules.rank(one.data_source, one.record_key) < rank for one in others)
            if stronger or (others and record.state == REFUSED):
                return False
            self.items_of[record.patient_id].remove(item)
        new_home = self.items_of[fields["patient_id"]]
        if all(one.id != item.id for one in new_home):
            new_home.append(item)
        return True

    def _take_differences(self, stored: Iterable[StoredDifference]) -> None:
        """Keep the entries of `conflicts`; of those between two patients, load the other one as well."""
        others: set[str] = set()
        for one in stored:
            if one.entry.other_patient is None:
                self.differences.setdefault(one.patient_id, []).append(one)
            else:
                self.corrections[one.id] = one
                others |= {one.patient_id, one.entry.other_patient}
        if others:
            self.load(others)

    def _load_corrected(self, patients: Iterable[str]) -> None:
        """Load completed items whose records have a new patient ID: these records keep their items.

        A withdrawn record finds its item when it returns.
        """
        foreign: dict[int, set[str]] = {}
        for patient in patients:
            own = {item.id for item in self.items_of[patient]}
            for record in self.patients[patient].values():
                if record.item_id is not None and record.item_id not in own:
                    foreign.setdefault(record.item_id, set()).add(patient)
        for number, item in read_items_of(self._connection, foreign).items() if foreign else ():
            for patient in foreign[number] if is_frozen(item) else ():
                self.items_of[patient].append(item)

    def _give_to_corrected(self, patients: Iterable[str]) -> None:
        """Let items that are open again follow their records to a patient ID that was corrected during the exam."""
        open_again: dict[int, Item] = {}
        for patient in patients:
            claimed = {record.item_id for record in self.records_of(patient) if record.state == LIVE}
            for item in self.items_of[patient]:
                if item.values[STATUS] in (SCHEDULED, DISCONTINUED) and item.id not in claimed:
                    open_again[item.id] = item
        if open_again:
            self.give_to_first(open_again)

    def give_to_first(self, items: Mapping[int, Item]) -> None:
        """Give each of these open items to the patient whom its first record names; the decision gives the others one.

        During the exam, its sources may have corrected the patient ID, each at its own time.
        """
        claiming = find_claiming_patients(self._connection, items)
        self.load(patient for _, patient in claiming)
        for number, item in items.items():
            patients = dict.fromkeys(patient for claimed, patient in claiming if claimed == number)
            claims = [
                record for patient in patients for record in self.records_of(patient)
                if record.state == LIVE and record.item_id == number
            ]  # fmt: skip
            if not claims or {record.patient_id for record in claims} == {item.values["patient_id"]}:
                continue
            first = min(claims, key=lambda one: self._rules.rank(one.data_source, one.record_key))
            for patient in (str(item.values["patient_id"]), *patients):
                self.items_of[patient] = [one for one in self.items_of[patient] if one.id != number]
            self.items_of[first.patient_id].append(item)
            self.gained |= {record.patient_id for record in claims}
            for other in claims:
                if other.patient_id != first.patient_id:
                    other.item_id, other.changed = None, True
                    self.corrected.append((first, other))
