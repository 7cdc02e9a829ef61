"""The values that the decision about a patient takes (claims, items, rules) and those that it returns.

Glossary: claim, item, rank, touched (docs/explanation/glossary.md).
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

UID_NAMESPACE = uuid.UUID("5c2b3a52-6c1e-5d0f-9a57-0f2c0d9f6b11")
_NAMESPACE_BYTES = UID_NAMESPACE.bytes
_VERSION_MASK = 0xF000 << 64 | 0xC000 << 48
_NOT_VERSION = ~_VERSION_MASK
_VERSION_5 = 5 << 76 | 0x8000 << 48
_SEPARATOR = "\x1f"  # no DICOM value contains it
STATUS = "performed_procedure_step_status"
STUDY_UID = "study_instance_uid"
FORMER_UIDS = "former_study_uids"
"""Study UIDs that sources supplied for an item earlier, as a JSON list: they go on linking a scanner's report."""
REPETITIONS = 4
"""So many generated study UIDs of one record are looked for among other patients' items."""
KEPT_DAYS = 90
"""So many days after its end, an exam that no source gives any more keeps its accession number."""
SCANNER = "scanner"
"""The winner of every conflict about an item that a scanner has touched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The configured rules for merging records.

    Attributes:
        ranks: Enabled source -> its place in the order of priority, 0 first; all others come last.
        match_on: Fields that make two sources' records the same step when no UID or accession number does.
        max_minutes: Longest difference of start times under that rule; None for any.
        max_minutes_touched: The same where one side is an item that a scanner has reported on.
        version: The version of the hosts' rows that the ranks come from; None: they are not compared.
    """

    ranks: Mapping[str, int] = field(default_factory=dict)
    match_on: tuple[str, ...] = ("patient_id", "scheduled_start_date", "modality")
    max_minutes: float | None = 240
    max_minutes_touched: float | None = 120
    version: str | None = None

    def rank(self, data_source: str, record_key: str) -> tuple[int, str, str]:
        """Return a record's place in the order of priority; sources that are not enabled come last, by name."""
        return (self.ranks.get(data_source, len(self.ranks)), data_source, record_key)


@dataclass(frozen=True, slots=True)
class Claim:
    """One source's live record."""

    id: int
    data_source: str
    record_key: str
    fields: Mapping[str, str]
    item_id: int | None


@dataclass(frozen=True, slots=True)
class Item:
    """A row of `worklist_items`: column -> value."""

    id: int
    values: Mapping[str, str | int | None]

    @property
    def touched(self) -> bool:
        """Whether a scanner has reported on the item."""
        return bool(self.values["scanner_touched"])


class Patient(NamedTuple):
    """Who a patient is: patient ID, and the issuer if one is named."""

    patient_id: str
    issuer: str | None

    def may_be(self, patient_id: str | None, issuer: str | None) -> bool:
        """Whether it can be the patient of another patient ID and issuer; whoever names no issuer may be either."""
        return self.patient_id == patient_id and not (self.issuer and issuer and self.issuer != issuer)


class Performed(NamedTuple):
    """A step of a completed exam whose item was deleted; accession number and issuer are "" if there was none."""

    study_uid: str
    accession_number: str
    day: str  # YYYYMMDD
    issuer: str = ""


@dataclass(frozen=True, slots=True, order=True)
class Conflict:
    """Two sources give different values for a field of the same step."""

    field: str
    winner: str
    loser: str
    lost_value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemDecision:
    """What the decision makes of one item.

    Attributes:
        item: The existing item, or None for a new one.
        claims: The records that describe it, the owner's first.
        values: The columns that have a value; empty for an item that a scanner has touched.
        conflicts: Values that lost against another source or the scanner.
    """

    item: Item | None
    claims: tuple[Claim, ...]
    values: Mapping[str, str | None]
    conflicts: tuple[Conflict, ...] = ()


def make_study_uid(data_source: str, record_key: str, patient_id: str, repetition: int = 0) -> str:
    """Derive the study instance UID of an item from its first record; the same record always gives the same UID.

    One record can begin several items when another record takes over the earlier ones; `repetition` numbers them.

    Source: DICOM PS3.5 B.2 (UUID derived UIDs, root 2.25).
    """
    if repetition:
        patient_id += f"{_SEPARATOR}{repetition}"
    return make_study_uids(data_source, (record_key,), (patient_id,))[0]


def make_study_uids(data_source: str, record_keys: Iterable[str], patients: Iterable[str]) -> list[str]:
    """Return what `make_study_uid` returns, for many records; calling `uuid.uuid5` would take six times as long."""
    begin = hashlib.sha1(_NAMESPACE_BYTES + (data_source + _SEPARATOR).encode(), usedforsecurity=False).copy
    as_number = int.from_bytes
    uids = []
    for key, patient in zip(record_keys, patients, strict=True):
        hashed = begin()
        hashed.update(f"{key}{_SEPARATOR}{patient}".encode())
        uids.append("2.25." + str(as_number(hashed.digest()[:16], "big") & _NOT_VERSION | _VERSION_5))
    return uids


def may_be_generated(uid: str) -> bool:
    """Whether a UID has the form that `make_study_uid` produces; UIDs of scanners and archives do not."""
    root, number = uid[:5], uid[5:]
    if root != "2.25." or not (number.isascii() and number.isdecimal()):
        return False
    return int(number) & _VERSION_MASK == _VERSION_5


def uid_begun_by(claim: Claim, repetition: int = 0) -> str:
    """Return the study UID of the item that a record begins."""
    return make_study_uid(claim.data_source, claim.record_key, claim.fields["patient_id"], repetition)
