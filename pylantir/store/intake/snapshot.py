"""The end of a whole snapshot: what it moved, and what it no longer shows. Lives in the writer, in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import bindparam, func, select

from pylantir.entry import SCHEDULED
from pylantir.store.decide.claims import STATUS
from pylantir.store.decide.records import LIVE, PENDING, REFUSED, STEP_KEY, WITHDRAWN, Record
from pylantir.store.decide.removal import HeldRemoval, judge_removal, make_picture
from pylantir.store.intake.state import CycleState
from pylantir.store.intake.working_set import WorkingSet
from pylantir.store.schema.tables import NOT_LIVE, source_entries, source_states, worklist_items

_ENTRIES = source_entries.c


def settle_snapshot(
    working: WorkingSet, source: str, cycle: CycleState, *, held: HeldRemoval | None, keep_missing: bool
) -> HeldRemoval | None:
    """Let pending records in, as moves where they are, and withdraw what the snapshot no longer shows.

    Args:
        working: A fresh working set of the transaction; it is written.
        source: Whose snapshot it is.
        cycle: Which records it has shown.
        held: What an earlier snapshot held back.
        keep_missing: Records that are not shown stay.

    Returns:
        What the guard holds back now, if anything.
    """
    connection = working.connection
    claims, waiting = connection.execute(_COUNT_CLAIMS, {"source": source}).one()
    if claims == cycle.seen_count and not waiting:
        return None
    unsettled = [
        (row.id, row.patient_id)
        for row in connection.execute(_FIND_CLAIMS, {"source": source})
        if row.state == PENDING or not cycle.has_seen(row.id)
    ]
    working.load(patient for _, patient in unsettled)
    records = [working.records[number] for number, _ in unsettled]
    pending = [one for one in records if one.state == PENDING and cycle.has_seen(one.id)]
    vanished = {
        one.id: one for one in records if not cycle.has_seen(one.id) and one.patient_id not in cycle.spared_patients
    }
    for gone, arrived in _settle_moves(working, pending, list(vanished.values())):
        del vanished[gone.id]
        counted_as = "inserted" if arrived.changed_at >= cycle.started_at else "unchanged"
        cycle.counts[counted_as] -= 1
        cycle.counts["updated"] += 1
    going = [] if keep_missing else list(vanished.values())
    still_held = _judge(working, source, going, cycle, held) if going else None
    if still_held is None:
        for record in going:
            working.enter(record, WITHDRAWN)
    working.write()
    return still_held


def _settle_moves(
    working: WorkingSet, pending: Sequence[Record], vanished: Sequence[Record]
) -> list[tuple[Record, Record]]:
    """Let every pending record in; where one record of its patient and modality vanished, it is that one, moved.

    Returns:
        The moves: from which record, to which.
    """
    arrived: dict[tuple[str, str | None], list[Record]] = {}
    gone: dict[tuple[str, str | None], list[Record]] = {}
    for record in pending:
        arrived.setdefault(_kind(record), []).append(record)
    for record in vanished:
        if record.state == LIVE and record.record_key.startswith(STEP_KEY):
            gone.setdefault(_kind(record), []).append(record)
    moved = []
    for kind, records in arrived.items():
        former = gone.get(kind, [])
        if len(records) == len(former) == 1:
            records[0].item_id, former[0].item_id = former[0].item_id, None
            working.enter(former[0], WITHDRAWN)
            moved.append((former[0], records[0]))
        for record in records:
            working.enter(record, LIVE)
    return moved


def _kind(record: Record) -> tuple[str, str | None]:
    return record.patient_id, record.fields.get("modality")


def _judge(
    working: WorkingSet, source: str, going: Sequence[Record], cycle: CycleState, held: HeldRemoval | None
) -> HeldRemoval | None:
    """Count what withdrawing these records would cancel, and ask the guard."""
    connection = working.connection
    leaving = {record.id for record in going}
    open_before = {
        row.id: row.item_id for row in connection.execute(_FIND_OPEN, {"source": source, "before": cycle.started_at})
    }
    kept_by_others = {
        record.item_id
        for record in working.records.values()
        if record.state == LIVE and record.id not in leaving and record.data_source in working.rules.ranks
    }
    would_cancel = sum(1 for number in leaving if number in open_before and open_before[number] not in kept_by_others)
    accepted = connection.scalar(select(source_states.c.removal_accepted).where(source_states.c.data_source == source))
    return judge_removal(
        picture=make_picture(record.record_key for record in going),
        would_cancel=would_cancel,
        of=len(open_before),
        accepted=bool(accepted),
        held=held,
        now=datetime.fromisoformat(working.now),
    )


_CLAIMED = (_ENTRIES.data_source == bindparam("source"), _ENTRIES.state.in_((LIVE, REFUSED, PENDING)))
_FIND_CLAIMS = select(_ENTRIES.id, _ENTRIES.patient_id, _ENTRIES.state).where(*_CLAIMED)
_OWN = select(func.count()).where(_ENTRIES.data_source == bindparam("source"))
# By the indexes alone: the second and third look at the few rows that are not live.
_COUNT_CLAIMS = select(
    _OWN.scalar_subquery() - _OWN.where(NOT_LIVE, _ENTRIES.state == WITHDRAWN).scalar_subquery(),
    _OWN.where(NOT_LIVE, _ENTRIES.state == PENDING).scalar_subquery(),
)
_FIND_OPEN = (
    select(_ENTRIES.id, _ENTRIES.item_id)
    .join(worklist_items, worklist_items.c.id == _ENTRIES.item_id)
    .where(
        _ENTRIES.data_source == bindparam("source"),
        _ENTRIES.state == LIVE,
        _ENTRIES.first_seen_at < bindparam("before"),
        worklist_items.c[STATUS] == SCHEDULED,
        worklist_items.c.scanner_touched == 0,
    )
)
