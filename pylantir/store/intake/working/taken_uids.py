"""Finds out which of the study UIDs that would be generated are in use already. Lives in the writer.

A source may supply a UID that Pylantir would generate for another record, and an item takes its UID along when it moves
to a corrected patient ID.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from pylantir.store.decide.claims import REPETITIONS, STUDY_UID, Patient, make_study_uid
from pylantir.store.intake.holders import ask_moved, ask_supplied
from pylantir.store.intake.working.memory import Memory


@dataclass(frozen=True, slots=True)
class TakenUids:
    """The study UIDs that would be generated for some patients, and what reads who has them.

    Attributes:
        made: Patient ID -> the UIDs that would be generated.
        read: Reads UID -> the patients who have it.
        moved: UID, number, patient ID and issuer of items that have moved to another patient ID.
    """

    made: Mapping[str, Set[str]]
    read: Callable[[], Mapping[str, Set[Patient]]]
    moved: Iterable[tuple[Any, ...]]

    def covers(self, patients: Set[str]) -> bool:
        """Whether all these patients were asked about."""
        return patients <= self.made.keys()

    def find(self, memory: Memory) -> Mapping[str, Mapping[str, Set[Patient]]]:
        """Return patient ID -> UID that would be generated for the patient but is in use -> who has it."""
        supplied, loaded = self.read(), memory.items()
        moved = [(uid, Patient(*owner)) for uid, number, *owner in self.moved if number not in loaded]
        moved += memory.moved()
        found = {}
        for patient, uids in self.made.items():
            owners = {uid: supplied[uid] for uid in uids & supplied.keys()}
            for uid, owner in moved:
                if uid in uids and owner.patient_id != patient:
                    owners[uid] = owners.get(uid, frozenset()) | {owner}
            if owners:
                found[patient] = owners
        return found


def ask_taken_uids(
    connection: Connection, memory: Memory, patients: Set[str], *, has_supplied: bool
) -> TakenUids | None:
    """Ask which of the study UIDs that would be generated for some patients are taken; return None if none can be.

    Args:
        connection: In a transaction.
        memory: The records and items of these patients, and perhaps of others.
        patients: The patients.
        has_supplied: Whether any stored record supplies a study UID.
    """
    is_supplied = any(STUDY_UID in one.fields for one in memory.records.values())
    if not (has_supplied or is_supplied or memory.moved()):
        return None
    made = {
        patient: {
            *(
                make_study_uid(one.data_source, one.record_key, patient, repetition)
                for one in memory.records_of(patient) for repetition in range(REPETITIONS)
            ),
            *(str(item.values["generated_study_uid"]) for item in memory.items_of[patient] if not item.touched),
        }
        for patient in patients
    }  # fmt: skip
    uids = {uid for uids in made.values() for uid in uids}
    return TakenUids(made, ask_supplied(connection, uids, memory.records), ask_moved(connection, uids))
