"""Carries out the end of a complete snapshot as `settlement` plans it, and withdraws held records on command.

Lives in the writer, in one transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import bindparam, func, or_, select

from pylantir.entry import SCHEDULED
from pylantir.store.decide.claims import STATUS
from pylantir.store.decide.evidence import BIRTH_DATE
from pylantir.store.decide.moves import find_begun
from pylantir.store.decide.records import LIVE, PENDING, REFUSED, WITHDRAWN, Record
from pylantir.store.decide.removal import HeldRemoval
from pylantir.store.decide.settlement import Guard, Settlement, find_cancelling, plan_settlement
from pylantir.store.intake.state import CycleState
from pylantir.store.intake.working_set import WorkingSet
from pylantir.store.schema.bulk import chunks
from pylantir.store.schema.tables import NOT_LIVE, source_entries, worklist_items

_ENTRIES = source_entries.c


def settle_snapshot(
    working: WorkingSet,
    source: str,
    cycle: CycleState,
    *,
    held: HeldRemoval | None,
    removes: bool,
    keep_missing: bool,
    today: str,
    seldom: bool,
) -> HeldRemoval | None:
    """Admit pending records, some of them as moves, and withdraw the records that the snapshot no longer shows.

    Args:
        working: A new working set of the transaction; this function writes it.
        source: The source's name.
        cycle: The records that the cycle has shown; this function completes its counts.
        held: The removal that earlier snapshots have held back.
        removes: The writer may withdraw missing records.
        keep_missing: The configuration keeps missing records, so nothing is held back either.
        today: The local day, YYYYMMDD.
        seldom: The source is fetched less often than every `removal.SELDOM_S` seconds.

    Returns:
        The removal that is held back now, if there is one.
    """
    connection = working.connection
    claims, waiting = connection.execute(_COUNT_CLAIMS, {"source": source}).one()
    if claims == cycle.seen_count and not waiting and held is None:
        return None
    records = _load_unsettled(working, source, cycle)
    missing = [one for one in records if not cycle.has_seen(one.id) and one.patient_id not in cycle.spared_patients]
    before = {"source": source, "before": cycle.started_at, "now": working.now, "today": today}
    guard = Guard(
        of=connection.scalar(_COUNT_OPEN, before) or 0 if missing else 0,
        held=held,
        inserted=cycle.counts["inserted"],
        now=datetime.fromisoformat(working.now),
        today=today,
        seldom=seldom,
    )
    ranked, items = working.rules.ranks, working.items()
    plan = plan_settlement(
        pending=[one for one in records if one.state == PENDING and cycle.has_seen(one.id)],
        arrived=_load_arrived(working, source, cycle.started_at, missing),
        missing=missing,
        shown_again=[one for one in records if one.held_since is not None and (keep_missing or cycle.has_seen(one.id))],
        keep_missing=not removes,
        cancels=find_cancelling(missing, working.records.values(), items, ranked, (cycle.started_at, working.now)),
        begun=find_begun(missing, items),
        rules=working.rules,
        guard=guard,
        started_at=cycle.started_at,
    )
    _carry_out(plan, working)
    for name, count in plan.counts.items():
        cycle.counts[name] += count
    return plan.held_removal


def _load_unsettled(working: WorkingSet, source: str, cycle: CycleState) -> list[Record]:
    """Load the records that are pending or held, or that the cycle has not shown."""
    unsettled = [
        (row.id, row.patient_id)
        for row in working.connection.execute(_FIND_CLAIMS, {"source": source})
        if row.state == PENDING or row.held_since is not None or not cycle.has_seen(row.id)
    ]
    working.load(patient for _, patient in unsettled)
    return [working.records[number] for number, _ in unsettled]


def _load_arrived(working: WorkingSet, source: str, since: str, missing: Sequence[Record]) -> list[Record]:
    """Load the cycle's new records that have the birth date of a missing one: its patient ID may be corrected."""
    born = sorted({birth_date for one in missing if (birth_date := one.fields.get(BIRTH_DATE))})
    new = [
        row for chunk in chunks(born)
        for row in working.connection.execute(_FIND_ARRIVED, {"source": source, "since": since, "born": chunk})
    ]  # fmt: skip
    working.load(row.patient_id for row in new)
    return [working.records[row.id] for row in new]


def _carry_out(plan: Settlement, working: WorkingSet) -> None:
    for gone, arrived in plan.moves:
        working.replace(gone, arrived)
    for record in plan.admitted:
        working.enter(record, LIVE)
    for record in plan.withdrawals:
        working.enter(record, WITHDRAWN)
    for record in plan.held:
        record.hold(working.now)
    for record in plan.shown_again:
        record.release()
    working.write()


def withdraw_held(working: WorkingSet, source: str, cycle: CycleState | None) -> int:
    """Withdraw the records that are held now; return how many.

    A held record that the current cycle has already shown stays and is no longer held.
    """
    held = working.connection.execute(_FIND_HELD, {"source": source}).all()
    working.load(row.patient_id for row in held)
    withdrawn = 0
    for row in held:
        record = working.records[row.id]
        if cycle and cycle.has_seen(row.id):
            record.release()
        else:
            working.enter(record, WITHDRAWN)
            withdrawn += 1
    working.write()
    return withdrawn


_CLAIMED = (_ENTRIES.data_source == bindparam("source"), _ENTRIES.state.in_((LIVE, REFUSED, PENDING)))
_FIND_CLAIMS = select(_ENTRIES.id, _ENTRIES.patient_id, _ENTRIES.state, _ENTRIES.held_since).where(*_CLAIMED)
_FIND_ARRIVED = select(_ENTRIES.id, _ENTRIES.patient_id).where(
    _ENTRIES.data_source == bindparam("source"),
    _ENTRIES.state.in_((LIVE, REFUSED)),
    _ENTRIES.first_seen_at >= bindparam("since"),
    _ENTRIES[BIRTH_DATE].in_(bindparam("born", expanding=True)),
)
_FIND_HELD = select(_ENTRIES.id, _ENTRIES.patient_id).where(
    _ENTRIES.data_source == bindparam("source"), _ENTRIES.held_since.is_not(None)
)
_OWN = select(func.count()).where(_ENTRIES.data_source == bindparam("source"))
# Indexes alone answer these: the second and third read only the few rows that are not live.
_COUNT_CLAIMS = select(
    _OWN.scalar_subquery() - _OWN.where(NOT_LIVE, _ENTRIES.state == WITHDRAWN).scalar_subquery(),
    _OWN.where(NOT_LIVE, _ENTRIES.state == PENDING).scalar_subquery(),
)
_COUNT_OPEN = (
    select(func.count())
    .select_from(source_entries.join(worklist_items, worklist_items.c.id == _ENTRIES.item_id))
    .where(
        _ENTRIES.data_source == bindparam("source"),
        _ENTRIES.state == LIVE,
        # Or by a clock that was ahead of this one.
        or_(_ENTRIES.first_seen_at < bindparam("before"), _ENTRIES.first_seen_at > bindparam("now")),
        _ENTRIES.scheduled_start_date >= bindparam("today"),
        worklist_items.c[STATUS] == SCHEDULED,
        worklist_items.c.scanner_touched == 0,
    )
)
