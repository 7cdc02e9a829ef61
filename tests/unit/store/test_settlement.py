"""The end of a snapshot is planned before anything is written: moves, withdrawals, what is held, the counts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylantir.entry import COMPLETED, SCHEDULED
from pylantir.store.decide.claims import STATUS, Item, Rules
from pylantir.store.decide.records import LIVE, PENDING, Record
from pylantir.store.decide.removal import HeldRemoval
from pylantir.store.decide.settlement import Guard, Settlement, find_cancelling, plan_settlement

RULES = Rules()
NOW = datetime(2030, 7, 1, 12, tzinfo=UTC)
EARLIER, LATER = "2030-07-01T11:00:00+00:00", "2030-07-01T11:59:59+00:00"
TODAY = "20300701"


def made(
    number: int, key: str | None = None, *, state: str = LIVE, held: tuple[timedelta, int] | None = None, **said: str
) -> Record:
    since = None if held is None else (NOW - held[0]).isoformat()
    times = 0 if held is None else held[1]
    fields = {"patient_id": f"P{number}", "scheduled_start_date": TODAY, "modality": "MR", **said}
    changed = LATER if state == PENDING else EARLIER
    return Record(number, "ris", key or f"id:{number}", state, number, changed, changed, None, since, times, fields)


def plan(
    missing: list[Record],
    *,
    of: int,
    inserted: int = 0,
    held: HeldRemoval | None = None,
    pending: tuple[Record, ...] = (),
) -> Settlement:
    guard = Guard(of=of, held=held, inserted=inserted, now=NOW, today=TODAY, seldom=False)
    return plan_settlement(
        pending=pending,
        arrived=[], missing=missing, shown_again=(), keep_missing=False, cancels={one.id for one in missing}, begun={},
        rules=RULES,
        guard=guard, started_at="2030-07-01T11:30:00+00:00",
    )  # fmt: skip


def test_few_go_and_many_are_held() -> None:
    few, many = [made(1)], [made(number) for number in range(1, 9)]
    assert plan(few, of=10).withdrawals == few
    settlement = plan(many, of=10)
    assert (settlement.withdrawals, settlement.held) == ([], many)
    assert settlement.held_removal == HeldRemoval(
        would_cancel=8, of=10, since=NOW.isoformat(timespec="microseconds"), times=1
    )


@pytest.mark.parametrize(("ago", "since"), [(timedelta(hours=1), NOW - timedelta(hours=1)), (-timedelta(days=1), NOW)])
def test_a_hold_that_began_by_a_clock_ahead_of_ours_lasts_no_longer_than_one_that_begins_now(
    ago: timedelta, since: datetime
) -> None:
    record = made(1, held=(ago, 1))
    record.hold(NOW.isoformat())
    assert (record.held_since, record.held_times) == (since.isoformat(), 2)


def test_past_days_go_whatever_is_held() -> None:
    past = [made(number, scheduled_start_date="20300630") for number in range(5)]
    today = [made(number) for number in range(10, 15)]
    settlement = plan([*past, *today], of=5)
    assert (settlement.withdrawals, settlement.held) == (past, today)


def test_each_held_record_has_its_own_time() -> None:
    due, young = made(1, held=(timedelta(minutes=15), 2)), made(2, held=(timedelta(minutes=14), 5))
    once = made(3, held=(timedelta(hours=2), 1))
    held = HeldRemoval(would_cancel=3, of=4, since=EARLIER, times=2)
    settlement = plan([due, young, once, made(4)], of=20, held=held)
    assert settlement.withdrawals == [due, made(4)]
    assert settlement.held == [young, once]
    assert settlement.held_removal is not None
    assert (settlement.held_removal.would_cancel, settlement.held_removal.of) == (2, 4)


def test_a_move_is_neither_missing_nor_new() -> None:
    gone = made(1, "step:P1-a")
    arrived = made(2, "step:P1-b", state=PENDING, patient_id="P1")
    settlement = plan([gone], of=1, inserted=1, pending=(arrived,))
    assert (settlement.moves, settlement.admitted, settlement.withdrawals) == ([(gone, arrived)], (arrived,), [])
    assert settlement.counts == {"inserted": -1, "unchanged": 0, "updated": 1}


def test_a_withdrawal_cancels_what_is_scheduled_and_nobody_else_gives() -> None:
    records = [made(number) for number in (1, 2, 3, 4)]
    records[3].first_seen_at = NOW.isoformat()
    other = made(5, patient_id="P2")
    other.data_source, other.item_id = "csv", 2
    items = {
        number: Item(number, {STATUS: COMPLETED if number == 3 else SCHEDULED, "scanner_touched": int(number == 3)})
        for number in (1, 2, 3, 4)
    }
    cycle = (LATER, NOW.isoformat())
    assert find_cancelling(records, [*records, other], items, {"ris", "csv"}, cycle) == {1}
    assert find_cancelling(records, [*records, other], items, {"ris"}, cycle) == {1, 2}
    records[3].first_seen_at = "2030-07-02T00:00:00+00:00"
    assert find_cancelling(records, [*records, other], items, {"ris"}, cycle) == {1, 2, 4}


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["20300630", "20300701", "20300702"]),
            st.none()
            | st.tuples(st.integers(0, 40).map(lambda minutes: timedelta(minutes=minutes)), st.integers(1, 4)),
        ),
        max_size=12,
    ),
    st.integers(0, 30),
    st.integers(0, 2),
)
def test_every_missing_record_goes_or_is_held_and_none_goes_too_early(
    shapes: list[tuple[str, tuple[timedelta, int] | None]], more: int, inserted: int
) -> None:
    missing = [made(n, held=held, scheduled_start_date=date) for n, (date, held) in enumerate(shapes, start=1)]
    settlement = plan(missing, of=len(missing) + more, inserted=inserted)
    assert sorted(one.id for one in [*settlement.withdrawals, *settlement.held]) == [one.id for one in missing]
    for record in settlement.withdrawals:
        if record.held_since is not None and record.fields["scheduled_start_date"] >= TODAY:
            assert record.held_times >= 2
            assert NOW - datetime.fromisoformat(record.held_since) >= timedelta(minutes=15)
    assert all(one.fields["scheduled_start_date"] >= TODAY for one in settlement.held)
    assert (settlement.held_removal is None) == (not settlement.held)
