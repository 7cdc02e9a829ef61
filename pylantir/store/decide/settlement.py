"""What becomes of a source's records at the end of a whole snapshot: moved, let in, withdrawn, held back. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from pylantir.entry import SCHEDULED
from pylantir.store.decide.claims import STATUS, Item
from pylantir.store.decide.records import LIVE, STEP_KEY, Record
from pylantir.store.decide.removal import HeldRemoval, is_due, is_suspicious

Move = tuple[Record, Record]
"""From which record, to which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What is to be done at the end of a snapshot.

    Attributes:
        moves: Vanished records and the ones that they have become.
        admitted: Records that waited for the end, and count from now on.
        withdrawals: Records that the source no longer has.
        held: Records that are missing, and stay for the time being.
        shown_again: Records that were held and are no longer.
        held_removal: What is held back now, for `status` and for the next snapshot; None if nothing is.
        counts: What changes in the counts of the cycle.
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
    """What the guard judges by.

    Attributes:
        of: Items that the source had before this snapshot, and that are not of a past day.
        held: What earlier snapshots have held back.
        inserted: Records of this cycle that the source did not have before.
        now: The time.
        today: The local day, YYYYMMDD.
        seldom: The source is fetched less often than every `removal.SELDOM_S` seconds.
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
    missing: Sequence[Record],
    shown_again: Sequence[Record],
    keep_missing: bool,
    cancels: Collection[int],
    guard: Guard,
    started_at: str,
) -> Settlement:
    """Plan the end of a whole snapshot.

    Args:
        pending: Records that wait for the end, because they may be moved ones.
        missing: Records that the snapshot did not show.
        shown_again: Held records that it did show.
        keep_missing: What is missing stays.
        cancels: Ids of the missing records whose withdrawal cancels an item (`find_cancelling`).
        guard: What the guard judges by.
        started_at: When the cycle began (ISO 8601, UTC).
    """
    moves = pair_moves(pending, missing)
    new = [arrived for _, arrived in moves if arrived.changed_at >= started_at]
    counts = {"inserted": -len(new), "unchanged": len(new) - len(moves), "updated": len(moves)}
    if keep_missing:
        return Settlement(moves=moves, admitted=pending, shown_again=shown_again, counts=counts)
    moved = {gone.id for gone, _ in moves}
    past, waiting, newly = [], [], []
    for record in missing:
        if record.id in moved:
            continue
        if record.fields["scheduled_start_date"] < guard.today:
            past.append(record)
        elif record.held_since is not None:
            waiting.append(record)
        else:
            newly.append(record)
    due = [
        record
        for record in waiting
        if is_due(since=str(record.held_since), times=record.held_times + 1, now=guard.now, seldom=guard.seldom)
    ]
    of = guard.held.of if guard.held else guard.of
    counted = sum(record.id in cancels for record in newly)
    suspicious = is_suspicious(counted, of=of, anything_new=guard.inserted > len(new))
    gone = {record.id for record in due}
    held = [record for record in waiting if record.id not in gone] + (newly if suspicious else [])
    return Settlement(
        moves=moves,
        admitted=pending,
        withdrawals=[*past, *due, *(() if suspicious else newly)],
        held=held,
        shown_again=shown_again,
        held_removal=_describe_held(held, cancels, of, guard.now),
        counts=counts,
    )


def find_cancelling(
    leaving: Sequence[Record],
    everyone: Iterable[Record],
    items: Mapping[int, Item],
    ranked: Collection[str],
    before: str,
) -> set[int]:
    """Find the records whose withdrawal would cancel an item that was there before.

    Args:
        leaving: The records that a snapshot does not show.
        everyone: All records of the same patients.
        items: Those patients' items by id.
        ranked: Enabled sources; what others still claim does not keep an item.
        before: When the cycle began.
    """
    ids = {record.id for record in leaving}
    kept = {
        record.item_id
        for record in everyone
        if record.state == LIVE and record.id not in ids and record.data_source in ranked
    }
    cancelling = set()
    for record in leaving:
        item = items.get(record.item_id) if record.item_id is not None else None
        was_there = record.state == LIVE and record.first_seen_at < before
        if item and was_there and item.id not in kept and item.values[STATUS] == SCHEDULED and not item.touched:
            cancelling.add(record.id)
    return cancelling


def pair_moves(pending: Sequence[Record], missing: Sequence[Record]) -> list[Move]:
    """Find the records that are others at another time: of a patient and modality one vanished and one arrived."""
    arrived: dict[tuple[str, str | None], list[Record]] = {}
    gone: dict[tuple[str, str | None], list[Record]] = {}
    for record in pending:
        arrived.setdefault(_kind(record), []).append(record)
    for record in missing:
        if record.state == LIVE and record.record_key.startswith(STEP_KEY):
            gone.setdefault(_kind(record), []).append(record)
    return [
        (gone[kind][0], records[0]) for kind, records in arrived.items() if len(records) == len(gone.get(kind, ())) == 1
    ]


def _kind(record: Record) -> tuple[str, str | None]:
    return record.patient_id, record.fields.get("modality")


def _describe_held(held: Sequence[Record], cancels: Collection[int], of: int, now: datetime) -> HeldRemoval | None:
    if not held:
        return None
    return HeldRemoval(
        would_cancel=sum(record.id in cancels for record in held),
        of=of,
        since=min(record.held_since or now.isoformat(timespec="microseconds") for record in held),
        times=max(record.held_times for record in held) + 1,
    )
