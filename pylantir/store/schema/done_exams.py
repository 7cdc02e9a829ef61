"""Remembers which deleted items were done exams, without naming the patient, so that none is listed as open again.

Lives in the writer. The patient ID is stored as a keyed hash: nobody can read it, but a given ID can be compared.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from pylantir.store.schema.bulk import select_among
from pylantir.store.schema.tables import done_exams, store_facts

_KEY_FACT = "erasure_key"
_PLAIN = ("study_instance_uid", "accession_number", "issuer_of_patient_id")
"""What is stored as it is."""
_EXAMS = done_exams.c
FIND_KEY = (
    select(store_facts.c.value)
    .where(store_facts.c.name == _KEY_FACT, select(_EXAMS.item_id).exists())
    .scalar_subquery()
)
"""The key of the hashes if an exam is remembered, else NULL."""


def make_hasher(connection: Connection) -> Callable[[str | None], str | None]:
    """Return the function that turns a patient ID into its keyed hash, and None into None; make the key if need be."""
    key = _read_key(connection)
    if key is None:
        key = secrets.token_hex(32)
        connection.execute(insert(store_facts), {"name": _KEY_FACT, "value": key})
    return lambda patient_id: _hash(key, patient_id)


def note_done_exams(connection: Connection, items: Sequence[Mapping[str, Any]], now: str) -> None:
    """Remember completed items that are being deleted.

    Args:
        connection: In a writing transaction.
        items: With `id`, `patient_id`, `issuer_of_patient_id`, `study_instance_uid`, `accession_number`,
            `scheduled_start_date`, `exam_ended_on`.
        now: The time.
    """
    hashed = make_hasher(connection)
    rows = [
        {
            "item_id": item["id"],
            "patient_hash": hashed(item["patient_id"]),
            "study_instance_uid": item["study_instance_uid"],
            "accession_number": item["accession_number"],
            "ended_on": item["exam_ended_on"] or item["scheduled_start_date"],
            "at": now,
            "issuer_of_patient_id": item["issuer_of_patient_id"],
        }
        for item in items
        # A number that contains the patient ID would name the patient.
        if item["study_instance_uid"] and not any(item["patient_id"] in str(item[name] or "") for name in _PLAIN)
    ]
    if rows:
        connection.execute(insert(done_exams), rows)


def find_done_exams(
    connection: Connection, patients: Iterable[str], key: str | None
) -> Iterator[tuple[str, tuple[str, str, str, str]]]:
    """Ask for the deleted exams; see `bulk.ask`.

    Args:
        connection: Any.
        patients: Patient IDs.
        key: `FIND_KEY`; None: there are no such exams.

    Returns:
        (Patient ID, (study UID, accession number, day, issuer)); "" where there is none.
    """
    if key is None:
        return iter(())
    hashes = {str(_hash(key, patient)): patient for patient in patients}
    columns = ("patient_hash", "study_instance_uid", "accession_number", "ended_on", "issuer_of_patient_id")
    found = select_among(connection, done_exams, columns, "patient_hash", list(hashes))

    def read() -> Iterator[tuple[str, tuple[str, str, str, str]]]:
        for owner, study_uid, accession_number, day, issuer in found:
            yield hashes[owner], (study_uid, accession_number or "", day, issuer or "")

    return read()


def forget_done_exams(connection: Connection, patient_id: str) -> None:
    """Forget the exams of one patient, who is erased."""
    if (key := _read_key(connection)) is not None:
        connection.execute(delete(done_exams).where(_EXAMS.patient_hash == _hash(key, patient_id)))


def _read_key(connection: Connection) -> str | None:
    key: str | None = connection.scalar(select(store_facts.c.value).where(store_facts.c.name == _KEY_FACT))
    return key


def _hash(key: str, patient_id: str | None) -> str | None:
    if patient_id is None:
        return None
    return hmac.digest(bytes.fromhex(key), patient_id.encode("utf-8", "surrogatepass"), "sha256").hex()
