"""Decides which patient owns an accession number or study UID that records of several patients claim. Pure.

An item that a scanner has reported on keeps its numbers. Otherwise the record of the source with the highest priority
owns the number. This depends on all records that claim the number, never on which came first. A record that is refused
for one of its numbers still claims the other one. If the owner names no issuer, the first claimant of the same patient
ID that names one decides whose number it is: records of two issuers may agree with the owner, but not with each other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from types import MappingProxyType

from pylantir.entry import CANCELED, COMPLETED, DISCONTINUED, IN_PROGRESS
from pylantir.store.decide.claims import KEPT_DAYS, STATUS, STUDY_UID, Item, Rules
from pylantir.store.decide.evidence import ACCESSION, ISSUER, are_two_patients
from pylantir.store.decide.records import LIVE, REFUSED, Record

Identifier = tuple[str, str]
"""Column and value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """The owner of an identifier.

    Attributes:
        patient: Patient ID, and issuer if known, by field.
        item_id: The item, if there is one.
        data_source: The source that gives it.
        started: A scanner has reported on the item.
        record_id: The record that has the identifier; its item may be made by the same decision.
    """

    patient: Mapping[str, str | int | None]
    item_id: int | None
    data_source: str
    started: bool = False
    record_id: int | None = None


def find_owners(
    identifiers: Iterable[Identifier],
    claims: Mapping[Identifier, Collection[Record]],
    started: Mapping[Identifier, Holder],
    rules: Rules,
    members: Mapping[int, Collection[Record]] = MappingProxyType({}),
) -> dict[Identifier, Holder | None]:
    """Find the owners of some identifiers.

    Args:
        identifiers: The identifiers.
        claims: The records that claim each of them.
        started: The items that keep an identifier whatever the records say.
        rules: The order of priority.
        members: Started item -> the live records that it has: an issuer that one of them names is the item's.
    """

    def rank(record: Record) -> tuple[int, str, str]:
        return rules.rank(record.data_source, record.record_key)

    owners: dict[Identifier, Holder | None] = {}
    for pair in identifiers:
        ranked = sorted(claims.get(pair, ()), key=rank)
        holder = started.get(pair)
        if holder:
            owners[pair] = _name_issuer(holder, [*sorted(members.get(holder.item_id or 0, ()), key=rank), *ranked])
        elif ranked:
            best = _first_with_issuer(ranked, ranked[0].patient_id) or ranked[0]
            owners[pair] = Holder(
                patient=best.fields, item_id=best.item_id, data_source=best.data_source, record_id=best.id
            )
        else:
            owners[pair] = None
    return owners


def _name_issuer(holder: Holder, ranked: Iterable[Record]) -> Holder:
    """Complete the issuer of an item's patient from the first record of the same patient ID that names one."""
    if holder.patient.get(ISSUER):
        return holder
    named = _first_with_issuer(ranked, holder.patient["patient_id"])
    return replace(holder, patient={**holder.patient, ISSUER: named.fields[ISSUER]}) if named else holder


def _first_with_issuer(ranked: Iterable[Record], patient: object) -> Record | None:
    return next((one for one in ranked if one.patient_id == patient and one.fields.get(ISSUER)), None)


def find_obstacle(record: Record, owners: Mapping[Identifier, Holder | None]) -> tuple[str, Holder] | None:
    """Return the column and the other owner because of which a record is refused; None if it is not refused."""
    for column, value in record.identifiers():
        owner = owners.get((column, value))
        if owner is None or not are_two_patients(owner.patient, record.fields):
            continue
        # The source corrected the patient ID after the exam: the exam is still this record's.
        if not (owner.started and owner.item_id == record.item_id):
            return column, owner
    return None


def advise_on_obstacle(status: str | None, column: str, item_id: int | None) -> str:
    """Say what to do about a record whose number another patient's item has.

    Args:
        status: The other item's status; None if it has no item.
        column: The number's column.
        item_id: The other item.
    """
    if status not in (IN_PROGRESS, COMPLETED, DISCONTINUED):
        return "correct it in one of the two records"
    said = f"a scanner has {'done' if status == COMPLETED else 'begun'} that exam, so correct it in this record; "
    if status == COMPLETED and column == ACCESSION:
        said += f"it is free {KEPT_DAYS} days after the exam, once no source gives it; "
    return said + f"if item {item_id} was not examined, run `pylantir set-status {item_id} {CANCELED} --reason TEXT`"


def is_idle(record: Record, items: Mapping[int, Item]) -> bool:
    """Whether an operator cancelled the record's item, and it is not booked for another day: it claims nothing."""
    item = items.get(record.item_id) if record.item_id is not None else None
    if item is None or not item.touched or item.values[STATUS] != CANCELED:
        return False
    return item.values["scheduled_start_date"] == record.fields["scheduled_start_date"]


def index_claims(records: Iterable[Record], items: Mapping[int, Item]) -> dict[Identifier, list[Record]]:
    """Return identifier -> the records that claim it, without idle ones."""
    index: dict[Identifier, list[Record]] = {}
    for record in records:
        if record.state in (LIVE, REFUSED) and not is_idle(record, items):
            for pair in record.identifiers():
                index.setdefault(pair, []).append(record)
    return index


def find_given_up(items: Iterable[Item], records: Iterable[Record]) -> set[int]:
    """Return the items with a discontinued exam that no record gives any more: the decision cancels them."""
    found = {item.id for item in items if item.touched and item.values[STATUS] == DISCONTINUED}
    return found - {record.item_id for record in records if record.state == LIVE} if found else found


def keeps_identifier(
    column: str, status: str | None, *, given: bool, ended_on: str | None, scheduled_on: str | None, today: str
) -> bool:
    """Whether an item that a scanner has reported on keeps an identifier for its patient.

    Args:
        column: The identifier's column.
        status: The item's status.
        given: A live record of the item gives the identifier.
        ended_on: The day on which the exam ended, YYYYMMDD, if known.
        scheduled_on: The day for which it was scheduled.
        today: YYYYMMDD.
    """
    if status == CANCELED:
        return False
    if status != COMPLETED or column == STUDY_UID or given:
        return True
    day = date.fromisoformat(today) - timedelta(days=KEPT_DAYS)
    return column == ACCESSION and (ended_on or scheduled_on or today) >= f"{day:%Y%m%d}"
