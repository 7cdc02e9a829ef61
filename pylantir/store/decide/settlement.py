"""Plans the end of a complete snapshot: which records were moved, are admitted, withdrawn or held back. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from pylantir.entry import COMPLETED, IN_PROGRESS, SCHEDULED
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
from pylantir.store.decide.removal import HeldRemoval, is_due, is_suspicious

Move = tuple[Record, Record]
"""From which record, to which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What the writer must do at the end of a snapshot.

    Attributes:
        moves: Pairs of a missing record and the new record that replaces it, perhaps under a corrected patient ID.
        admitted: Pending records that become live.
        withdrawals: Records that the source no longer has.
        held: Missing records that are kept for now.
        shown_again: Records that were held and that this snapshot shows again.
        held_removal: The removal that is held back now, for `status` and the next snapshot; None if there is none.
        counts: Changes to the counts of the cycle.
    """

    moves: Sequence[Move] = ()
    admitted: Sequence[Record] = ()
    withdrawals: Sequence[Record] = ()
    held: Sequence[Record] = ()
    shown_again: Sequence[Record] = ()
    held_removal: HeldRemoval | None = None
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """What the guard against truncated exports needs to know.

    Attributes:
        of: Items that the source had before this snapshot, without those of past days.
        held: The removal that earlier snapshots have held back.
        inserted: Records of this cycle that the source did not have before.
        now: The time.
        today: The local day, YYYYMMDD.
        seldom: The source is fetched less often than once per `removal.SELDOM_S` seconds.
    """

    of: int
    held: HeldRemoval | None
    inserted: int
    now: datetime
    today: str
    seldom: bool


def plan_settlement(
    *,
    pending: Sequence[Record],
    arrived: Sequence[Record],
    missing: Sequence[Record],
    shown_again: Sequence[Record],
    keep_missing: bool,
    cancels: Collection[int],
    begun: Mapping[int, Description],
    rules: Rules,
    guard: Guard,
    started_at: str,
) -> Settlement:
    """Plan the end of a complete snapshot.

    Args:
        pending: Pending records: each may be a booking that was moved.
        arrived: New records of other patient IDs: each may be a missing record whose patient ID was corrected.
        missing: Records that the snapshot did not show.
        shown_again: Held records that the snapshot did show.
        keep_missing: The configuration keeps missing records.
        cancels: Ids of the missing records whose withdrawal cancels an item (`find_cancelling`).
        begun: The exams that have begun of the missing records (`find_begun`).
        rules: The matching rule.
        guard: What the guard against truncated exports needs to know.
        started_at: When the cycle began (ISO 8601, UTC).
    """
    moves = pair_moves(pending, missing, begun, rules)
    paired = {gone.id for gone, _ in moves}
    moves += pair_corrections(arrived, [record for record in missing if record.id not in paired])
    new = [arrived for _, arrived in moves if arrived.changed_at >= started_at]
    counts = {"inserted": -len(new), "unchanged": len(new) - len(moves), "updated": len(moves)}
    if keep_missing:
        return Settlement(moves=moves, admitted=pending, shown_again=shown_again, counts=counts)
    moved = {gone.id for gone, _ in moves}
    going, waiting, newly = _divide_missing([record for record in missing if record.id not in moved], guard)
    of = guard.held.of if guard.held else guard.of
    counted = sum(record.id in cancels for record in newly)
    if is_suspicious(counted, of=of, anything_new=guard.inserted > len(new)):
        waiting += newly
    else:
        going += newly
    return Settlement(
        moves=moves,
        admitted=pending,
        withdrawals=going,
        held=waiting,
        shown_again=shown_again,
        held_removal=_describe_held(waiting, cancels, of, guard.now),
        counts=counts,
    )


def _divide_missing(missing: Iterable[Record], guard: Guard) -> tuple[list[Record], list[Record], list[Record]]:
    """Divide missing records: those that go now, those that stay held, and those missing for the first time.

    The records of past days go, and those that have been held long enough.
    """
    past, due, waiting, newly = [], [], [], []
    for record in missing:
        if record.fields["scheduled_start_date"] < guard.today:
            past.append(record)
        elif record.held_since is None:
            newly.append(record)
        elif is_due(since=record.held_since, times=record.held_times + 1, now=guard.now, seldom=guard.seldom):
            due.append(record)
        else:
            waiting.append(record)
    return [*past, *due], waiting, newly


def find_cancelling(
    leaving: Sequence[Record],
    everyone: Iterable[Record],
    items: Mapping[int, Item],
    ranked: Collection[str],
    cycle: tuple[str, str],
) -> set[int]:
    """Find the records whose withdrawal would cancel an item that existed before the cycle.

    Args:
        leaving: The records that a snapshot does not show.
        everyone: All records of the same patients.
        items: Those patients' items by id.
        ranked: Enabled sources; claims of other sources do not keep an item.
        cycle: When the cycle began, and the present moment. What was first seen later than now, was seen before the
            cycle by a clock that was ahead.
    """
    began, now = cycle
    ids = {record.id for record in leaving}
    kept = {
        record.item_id
        for record in everyone
        if record.state == LIVE and record.id not in ids and record.data_source in ranked
    }
    cancelling = set()
    for record in leaving:
        item = items.get(record.item_id) if record.item_id is not None else None
        was_there = record.state == LIVE and not began <= record.first_seen_at <= now
        if item and was_there and item.id not in kept and item.values[STATUS] == SCHEDULED and not item.touched:
            cancelling.add(record.id)
    return cancelling


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


def _are_one_person(former: Record, new: Record, rung: int) -> bool:
    """Whether two records of one patient ID can be about one person."""
    if is_another_patient(former.fields, new.fields):
        return False
    # Under one birth date a name may be given for the first time: a newborn's, an emergency's.
    born = former.fields.get(BIRTH_DATE)
    weak = rung >= len(IDENTIFIERS) and not (born and born == new.fields.get(BIRTH_DATE))
    return not objections_to_one_person(former.fields, new.fields, weak=weak)


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
    for rung in range(_RUNGS):
        by_key: dict[object, tuple[list[Record], list[Record]]] = {}
        for side, records in enumerate((gone.values(), waiting.values())):
            for record in records:
                key = _identity_on(rung, record)
                if key is not None:
                    by_key.setdefault((record.patient_id, key), ([], []))[side].append(record)
        for former, new in by_key.values():
            if rung == _RUNGS - 1 and len(new) == 1:
                former[:] = [one for one in former if one.id not in begun or _is_same_step(one, new[0], rules)]
            if rung == _STEP_RUNG and len(new) == 1:
                former[:] = [one for one in former if one.id not in begun or not _is_other_exam(one, new[0])]
            if rung == _ACCESSION_RUNG and len(new) == 1:
                day = new[0].fields["scheduled_start_date"]
                former[:] = [one for one in former if not is_long_over(begun.get(one.id, {}), day)]
            if len(former) == len(new) == 1 and _are_one_person(former[0], new[0], rung):
                moves.append((former[0], new[0]))
                del gone[former[0].id], waiting[new[0].id]
    return moves


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


_RUNGS = 4
_STEP_RUNG = len(IDENTIFIERS)
_ACCESSION_RUNG = IDENTIFIERS.index(ACCESSION)


def _identities(fields: Mapping[str, str]) -> list[tuple[object, ...]]:
    """Return the keys by which two records of one patient are the same booking, strongest first."""
    numbers: list[tuple[object, ...]] = [(name, fields[name]) for name in IDENTIFIERS if fields.get(name)]
    place = ("scheduled_start_date", "scheduled_start_time", "modality", "scheduled_station_aetitle")
    return [*numbers, ("step", *(fields.get(name) for name in place))]


def _identity_on(rung: int, record: Record) -> object:
    if rung == _RUNGS - 1:
        return ("moved", record.fields.get("modality")) if record.record_key.startswith(STEP_KEY) else None
    name = (*IDENTIFIERS, "step")[rung]
    return next((one for one in _identities(record.fields) if one[0] == name), None)


def _describe_held(held: Sequence[Record], cancels: Collection[int], of: int, now: datetime) -> HeldRemoval | None:
    if not held:
        return None
    return HeldRemoval(
        would_cancel=sum(record.id in cancels for record in held),
        of=of,
        since=min(record.held_since or now.isoformat(timespec="microseconds") for record in held),
        times=max(record.held_times for record in held) + 1,
    )
