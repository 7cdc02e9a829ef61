"""Plans the end of a complete snapshot: which records were moved, are admitted, withdrawn or held back. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from pylantir.entry import SCHEDULED
from pylantir.store.decide.claims import STATUS, Item, Rules
from pylantir.store.decide.evidence import Description
from pylantir.store.decide.moves import Move, pair_corrections, pair_moves
from pylantir.store.decide.records import LIVE, Record
from pylantir.store.decide.removal import HeldRemoval, is_due, is_suspicious


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


def _describe_held(held: Sequence[Record], cancels: Collection[int], of: int, now: datetime) -> HeldRemoval | None:
    if not held:
        return None
    return HeldRemoval(
        would_cancel=sum(record.id in cancels for record in held),
        of=of,
        since=min(record.held_since or now.isoformat(timespec="microseconds") for record in held),
        times=max(record.held_times for record in held) + 1,
    )
