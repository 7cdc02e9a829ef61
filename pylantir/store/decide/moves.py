"""Finds the new records of a source that replace missing ones: the same booking under another key, time or patient ID.

In: the records of one source that are new and those that are missing. Out: pairs of them. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from pylantir.entry import COMPLETED, IN_PROGRESS
from pylantir.store.decide.claims import STATUS, STUDY_UID, Item, Rules
from pylantir.store.decide.evidence import (
    ACCESSION,
    BIRTH_DATE,
    STEP_ID,
    Description,
    find_objections,
    find_sign,
    have_other_procedures,
    is_another_patient,
    is_correction,
    is_long_over,
    objections_to_one_person,
    start_minutes,
)
from pylantir.store.decide.records import IDENTIFIERS, LIVE, PENDING, STEP_KEY, Record

Move = tuple[Record, Record]
"""From which record, to which."""
_PLACE, _MOVED = "place", "moved"
_SIGNS = (*IDENTIFIERS, _PLACE, _MOVED)
"""What shows that two records are one booking, the strongest first: a number; date, time, modality and station; the
modality alone, where neither record has an ID of its own."""


def find_begun(records: Iterable[Record], items: Mapping[int, Item]) -> dict[int, Description]:
    """Find the records whose exam a scanner has begun, or has done: record id -> its item's values."""
    begun = {
        item.id: item.values
        for item in items.values()
        if item.touched and item.values[STATUS] in (IN_PROGRESS, COMPLETED)
    }
    return {record.id: begun[record.item_id] for record in records if record.item_id in begun}


def may_have_become(record: Record, key: str, fields: Mapping[str, str]) -> bool:
    """Whether a new record may replace a missing one of its patient: under a new key or, without IDs, at a new time."""
    moved = record.record_key.startswith(STEP_KEY) and key.startswith(STEP_KEY)
    if moved and record.fields.get("modality") == fields.get("modality"):
        return True
    return bool(set(_identities(record.fields)) & set(_identities(fields)))


def pair_moves(
    pending: Sequence[Record], missing: Sequence[Record], begun: Mapping[int, Description], rules: Rules
) -> list[Move]:
    """Find the new records that replace missing ones, under another key or at another time.

    A missing and a new record of one patient are the same booking if their accession number or study UID agree, else
    if date, time, modality and station agree, else, if neither has an identifier of its own, if the modality agrees.
    An exam that has begun is not moved any more: the new record is its booking only if the rule for records of two
    sources says so, else it is another exam. It is also another exam if it has the accession number of an exam that was
    completed long before, or if little says that it is the same one (`_is_other_exam`). Two people who share the
    patient ID are never the same booking.
    """
    gone = {record.id: record for record in missing if record.state == LIVE}
    waiting = {record.id: record for record in pending}
    moves: list[Move] = []
    for sign in _SIGNS:
        by_key: dict[object, tuple[list[Record], list[Record]]] = {}
        for side, records in enumerate((gone.values(), waiting.values())):
            for record in records:
                key = _key_by(sign, record)
                if key is not None:
                    by_key.setdefault((record.patient_id, key), ([], []))[side].append(record)
        for former, arrived in by_key.values():
            if len(arrived) != 1:
                continue
            new = arrived[0]
            possible = [
                one for one in former if one.id not in begun or _may_go_on(sign, one, new, begun[one.id], rules)
            ]
            if len(possible) == 1 and _are_one_person(possible[0], new, sign):
                moves.append((possible[0], new))
                del gone[possible[0].id], waiting[new.id]
    return moves


def _key_by(sign: str, record: Record) -> object:
    """Return what two records must share to be one booking by a sign; None: the sign says nothing about this one."""
    if sign == _MOVED:
        return (sign, record.fields.get("modality")) if record.record_key.startswith(STEP_KEY) else None
    return next((one for one in _identities(record.fields) if one[0] == sign), None)


def _may_go_on(sign: str, former: Record, new: Record, begun: Description, rules: Rules) -> bool:
    """Whether a new record that agrees by a sign with an exam that has begun can be the booking of this exam."""
    if sign == ACCESSION:
        return not is_long_over(begun, new.fields["scheduled_start_date"])
    if sign == _PLACE:
        return not _is_other_exam(former, new)
    return sign != _MOVED or _is_same_step(former, new, rules)


def _are_one_person(former: Record, new: Record, sign: str) -> bool:
    """Whether two records of one patient ID can be about one person."""
    if is_another_patient(former.fields, new.fields):
        return False
    # Under one birth date a name may be given for the first time: a newborn's, an emergency's.
    born = former.fields.get(BIRTH_DATE)
    weak = sign not in IDENTIFIERS and not (born and born == new.fields.get(BIRTH_DATE))
    return not objections_to_one_person(former.fields, new.fields, weak=weak)


def _is_same_step(former: Record, new: Record, rules: Rules) -> bool:
    """Whether two records would be one step if they came from two sources and a scanner had the one."""
    sign = find_sign(former.fields, new.fields, rules, rules.max_minutes_touched)
    return sign is not None and not find_objections(former.fields, new.fields, weak=True)


def _is_other_exam(begun: Record, new: Record) -> bool:
    """Whether a booking of the day, time, modality and station of an exam that has begun is another exam.

    Two of three say so: no time is given, the numbers differ, the procedures differ.
    """
    objections = find_objections(begun.fields, new.fields, weak=True)
    other_number = not {ACCESSION, STUDY_UID, STEP_ID}.isdisjoint(objections)
    return (start_minutes(new.fields) is None) + other_number + have_other_procedures(begun.fields, new.fields) > 1


def pair_corrections(arrived: Sequence[Record], missing: Sequence[Record]) -> list[Move]:
    """Find the new records that replace missing ones under a corrected patient ID.

    Name and birth date are given and agree, and the accession number, the study UID, or date, time, modality and
    station.
    """
    waiting: dict[object, list[Record]] = {}
    for record in arrived:
        for identity in _identities(record.fields):
            waiting.setdefault(identity, []).append(record)
    found: dict[int, Record] = {}
    pairs: dict[int, list[Record]] = {}
    for gone in missing:
        for new in {one.id: one for key in _identities(gone.fields) for one in waiting.get(key, ())}.values():
            if gone.state != PENDING and gone.patient_id != new.patient_id and is_correction(gone.fields, new.fields):
                found[gone.id] = gone
                pairs.setdefault(gone.id, []).append(new)
    sought = Counter(new.id for own in pairs.values() for new in own)
    return [(found[gone], own[0]) for gone, own in pairs.items() if len(own) == 1 and sought[own[0].id] == 1]


def _identities(fields: Mapping[str, str]) -> list[tuple[object, ...]]:
    """Return the keys by which two records of one patient are the same booking, strongest first."""
    numbers: list[tuple[object, ...]] = [(name, fields[name]) for name in IDENTIFIERS if fields.get(name)]
    place = ("scheduled_start_date", "scheduled_start_time", "modality", "scheduled_station_aetitle")
    return [*numbers, (_PLACE, *(fields.get(name) for name in place))]
