"""What a snapshot no longer shows is cancelled, unless it cannot be trusted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import Engine
from worklist_store import Feed, Record, check_audit, claims, items, record, report_from_scanner, rows, runs, served

from pylantir.entry import CANCELED, COMPLETED, SCHEDULED
from pylantir.ipc.cycles import Rejection
from pylantir.store.decide.claims import STATUS
from pylantir.store.schema.tables import audit_log, rejected_entries, source_entries

NOON = datetime(2030, 7, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


class Clock:
    """A clock that goes on when a test says so, and a little at each look."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        self.now += timedelta(microseconds=1)
        return self.now

    def advance(self, by: timedelta) -> None:
        self.now += by


def day(count: int, start: int = 0, **fields: str) -> list[Record]:
    return [record(str(n), patient=f"P{n:03}", **fields) for n in range(start, count)]


def patients(store: Engine) -> list[str]:
    return [one[0] for one in served(store)]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def feed(store: Engine, clock: Clock) -> Feed:
    feed = Feed(store, "ris", clock=clock)
    feed.sync(*day(24))
    return feed


def test_a_failed_fetch_cancels_nothing(store: Engine, feed: Feed) -> None:
    feed.sync(*day(23), error="the line broke")
    feed.sync(*day(23), complete=False)
    assert len(served(store)) == 24


def test_a_fetch_that_lost_a_batch_cancels_nothing(store: Engine, feed: Feed) -> None:
    batches = feed.batches(day(23), size=10)
    for batch in (batches[0], batches[2]):
        feed.ingest.apply_batch(batch)
    assert not feed.ingest.finish_cycle(feed.end(batches)).complete
    assert len(served(store)) == 24


def test_a_cycle_that_spans_two_writers_cancels_nothing_and_the_next_one_does(store: Engine, feed: Feed) -> None:
    feed.known = {}
    batches = feed.batches(day(23), size=10)
    feed.ingest.apply_batch(batches[0])
    feed.restart()
    for batch in batches:
        feed.ingest.apply_batch(batch)
    summary = feed.ingest.finish_cycle(feed.end(batches))
    assert (summary.complete, len(served(store))) == (False, 24)
    assert (runs(store)[1]["fetched"], runs(store)[1]["unchanged"]) == (23, 23)
    assert feed.sync(*day(23)).counts["cancelled"] == 1
    assert len(served(store)) == 23


def test_a_cycle_given_up_half_way_has_its_row_and_cancels_nothing(store: Engine, feed: Feed) -> None:
    feed.ingest.apply_batch(feed.batches(day(5))[0])
    feed.sync(*day(24))
    interrupted, whole = runs(store)[1:]
    assert "interrupted" in interrupted["error"]
    assert (interrupted["complete"], whole["complete"], whole["error"]) == (0, 1, None)
    assert len(served(store)) == 24
    assert feed.ingest.find_last_success() == whole["started_at"]


@pytest.mark.parametrize("kept", [0, 11])
def test_an_empty_or_shrunken_snapshot_is_held_back(store: Engine, feed: Feed, kept: int) -> None:
    summary = feed.sync(*day(kept))
    assert summary.held is not None
    assert (summary.held.would_cancel, summary.held.of, summary.complete) == (24 - kept, 24, False)
    assert len(served(store)) == 24
    feed.sync(*day(24))
    assert feed.ingest.finish_cycle(feed.end([], error="down")).held is None
    assert {one["held_since"] for one in rows(store, source_entries)} == {None}


def test_what_a_clock_ahead_of_ours_has_dated_is_guarded_and_rejected_no_longer_than_the_rest(
    store: Engine, feed: Feed, clock: Clock
) -> None:
    clock.advance(timedelta(days=2))
    feed.sync(*day(30), rejected=[Rejection("row 31", "patient_id", "missing", None)])
    clock.advance(timedelta(days=-2))
    assert feed.sync(*day(30)).counts["rejected"] == 0
    assert rows(store, rejected_entries) == []
    summary = feed.sync(*day(30, start=24))
    assert summary.held is not None
    assert (summary.held.would_cancel, summary.held.of) == (24, 30)
    feed.sync(*day(30))
    assert feed.sync(*day(24)).counts["cancelled"] == 6


def test_a_clock_that_is_a_day_ahead_lets_no_booking_of_today_pass_for_a_past_one(
    store: Engine, feed: Feed, clock: Clock
) -> None:
    feed.options["day_clock"] = lambda: NOON
    feed.restart()
    clock.advance(timedelta(days=1))
    summary = feed.sync(*day(3))
    assert summary.held is not None
    assert (summary.held.would_cancel, len(served(store))) == (21, 24)


def test_half_is_believed(store: Engine, feed: Feed) -> None:
    assert feed.sync(*day(12)).held is None
    assert len(served(store)) == 12


def test_replacing_all_by_others_is_held_until_the_records_have_been_missing_three_times_over_a_quarter_of_an_hour(
    store: Engine, feed: Feed, clock: Clock
) -> None:
    others = day(50, start=24)
    assert feed.sync(*others).held is not None
    for _ in range(5):
        clock.advance(2 * MINUTE)
        assert feed.sync(*others).held is not None
        assert len(served(store)) == 50
    clock.advance(6 * MINUTE)
    summary = feed.sync(*others)
    assert (summary.held, summary.complete, summary.counts["cancelled"]) == (None, True, 24)
    assert patients(store) == [f"P{n:03}" for n in range(24, 50)]
    check_audit(store)


def test_three_snapshots_are_needed_however_long_they_take(store: Engine, feed: Feed, clock: Clock) -> None:
    feed.sync()
    clock.advance(600 * MINUTE)
    feed.restart()
    assert feed.sync().held is not None
    assert len(served(store)) == 24
    assert feed.sync().held is None
    assert served(store) == []


def test_two_snapshots_are_enough_where_the_source_is_fetched_seldom(store: Engine, clock: Clock) -> None:
    feed = Feed(store, "ris", clock=clock, seldom=True)
    feed.sync(*day(20))
    clock.advance(timedelta(days=1))
    tomorrow = day(40, start=20, scheduled_start_date="20300705")
    # The first list's day is over: it simply goes.
    assert feed.sync(*tomorrow).held is None
    assert len(served(store)) == 20
    others = day(60, start=40, scheduled_start_date="20300705")
    clock.advance(timedelta(days=1))
    assert feed.sync(*others).held is not None
    clock.advance(MINUTE)
    assert feed.sync(*others).held is not None
    clock.advance(timedelta(days=1))
    assert feed.sync(*others).held is None
    assert patients(store) == [f"P{n:03}" for n in range(40, 60)]


@pytest.mark.parametrize(("hours", "over"), [(11, False), (12, True), (-13, False)])
def test_a_day_is_over_when_it_is_at_the_source(store: Engine, clock: Clock, hours: int, over: bool) -> None:
    feed = Feed(store, "ris", clock=clock, zone=timezone(timedelta(hours=hours)))
    feed.sync(*day(20))
    assert (feed.sync().held is None) is over
    assert len(served(store)) == (0 if over else 20)


def test_a_day_list_that_is_replaced_every_morning_needs_nobody(store: Engine, clock: Clock) -> None:
    feed = Feed(store, "ris", clock=clock)
    for number in range(1, 9):
        today = clock.now.astimezone().strftime("%Y%m%d")
        list_of_today = [
            record(f"{number}-{n}", patient=f"D{number}-{n}", scheduled_start_date=today) for n in range(20)
        ]
        summary = feed.sync(*list_of_today)
        assert (summary.held, summary.error) == (None, None)
        assert {one[1] for one in served(store)} == {today}
        clock.advance(timedelta(days=1))


def test_each_record_goes_after_its_own_time(store: Engine, clock: Clock) -> None:
    feed = Feed(store, "ris", clock=clock)
    feed.sync(*day(40, scheduled_start_date="20300702"))
    left = day(55, start=40, scheduled_start_date="20300702")
    assert feed.sync(*left).held is not None
    for gone in range(1, 5):
        clock.advance(10 * MINUTE)
        # One cancellation of fifteen would not be held: it goes at once, and starts nothing anew.
        feed.sync(*left[gone:])
        assert not {f"P{40 + n:03}" for n in range(gone)} & set(patients(store))
    assert patients(store) == [f"P{n:03}" for n in range(44, 55)]


def test_what_comes_back_is_held_no_longer_and_waits_anew_when_it_goes_again(
    store: Engine, feed: Feed, clock: Clock
) -> None:
    feed.sync(*day(2))
    clock.advance(10 * MINUTE)
    feed.sync(*day(2))
    clock.advance(4 * MINUTE)
    feed.sync(*day(20))
    clock.advance(4 * MINUTE)
    summary = feed.sync(*day(2))
    # P020 … P023 have been missing all the time; the others have only just gone again.
    assert patients(store) == [f"P{n:03}" for n in range(20)]
    assert summary.held is not None
    assert summary.held.would_cancel == 18


def test_the_measure_is_what_was_there_before_the_hold_began(store: Engine, feed: Feed) -> None:
    feed.sync(*day(60, start=24))
    summary = feed.sync(*day(60, start=40))
    # 16 more than half of the 24 that there were, though far less than half of the 60 that there are.
    assert summary.held is not None
    assert (summary.held.would_cancel, summary.held.of) == (40, 24)


def test_items_of_past_days_are_neither_counted_nor_held(store: Engine, clock: Clock) -> None:
    feed = Feed(store, "ris", clock=clock)
    feed.sync(*day(40, scheduled_start_date="20300630"), *day(45, start=40))
    summary = feed.sync(*day(45, start=40))
    assert (summary.held, summary.counts["cancelled"]) == (None, 40)
    summary = feed.sync(*day(45, start=43))
    assert summary.held is not None
    assert (summary.held.would_cancel, summary.held.of) == (3, 5)


def test_what_is_held_goes_when_its_day_is_over(store: Engine, feed: Feed, clock: Clock) -> None:
    assert feed.sync().held is not None
    clock.advance(timedelta(days=1))
    assert feed.sync().held is None
    assert served(store) == []


def test_accepting_cancels_what_is_held_now_and_nothing_else(store: Engine, feed: Feed) -> None:
    assert "nothing is held" in feed.ingest.accept_removal()
    feed.sync(*day(2))
    assert len(served(store)) == 24
    tried = feed.ingest.accept_removal(dry_run=True)
    assert "22 held records would be withdrawn" in tried
    assert len(served(store)) == 24
    feed.restart()
    assert "22 held records withdrawn, 22 items cancelled" in feed.ingest.accept_removal()
    assert patients(store) == ["P000", "P001"]
    assert feed.sync(*day(2)).held is None
    assert feed.sync().held is not None
    assert len(served(store)) == 2
    assert {line["actor"] for line in rows(store, audit_log) if line["action"] == "cancelled"} == {"command:accept"}
    check_audit(store)


def test_accepting_leaves_what_the_fetch_under_way_has_shown_again(store: Engine, feed: Feed) -> None:
    feed.sync(*day(2))
    batches = feed.batches(day(24), size=12)
    feed.apply(batches[0])
    feed.ingest.accept_removal()
    assert patients(store) == [f"P{n:03}" for n in range(12)]
    feed.apply(batches[1])
    assert feed.finish(feed.end(batches)).held is None
    assert len(served(store)) == 24
    feed.sync(*day(24))
    assert len(served(store)) == 24
    check_audit(store)


def test_what_other_sources_give_is_not_cancelled_and_not_counted(store: Engine, feed: Feed) -> None:
    Feed(store, "csv").sync(*day(24))
    assert feed.sync(*day(2)).held is None
    assert len(served(store)) == 24
    assert runs(store)[-1]["cancelled"] == 0


def test_a_source_that_is_no_longer_configured_does_not_hide_a_shrunken_snapshot(store: Engine) -> None:
    Feed(store, "gone").sync(*day(24))
    feed = Feed(store, "ris")
    feed.sync(*day(24))
    assert feed.sync().held is not None
    assert len(served(store)) == 24


def test_missing_entries_keep(store: Engine) -> None:
    feed = Feed(store, "ris", keep_missing=True)
    feed.sync(*day(3), record(patient="Q", scheduled_start_time="090000"))
    feed.sync(record(patient="Q", scheduled_start_time="100000"))
    assert [(one[0], one[2]) for one in served(store)] == [
        ("P000", "090000"), ("P001", "090000"), ("P002", "090000"), ("Q", "100000"),
    ]  # fmt: skip


def test_a_source_that_keeps_what_is_missing_from_now_on_holds_nothing(store: Engine, feed: Feed) -> None:
    feed.sync(*day(2))
    keeping = Feed(store, "ris", keep_missing=True)
    assert keeping.sync(*day(2)).held is None
    assert "nothing is held" in keeping.ingest.accept_removal()
    assert len(served(store)) == 24


def test_a_started_item_outlives_its_record(store: Engine, feed: Feed) -> None:
    report_from_scanner(store, items(store)[0]["id"], COMPLETED)
    feed.sync(*day(24, start=2))
    assert [one[STATUS] for one in items(store)[:2]] == [COMPLETED, CANCELED]
    assert runs(store)[-1]["cancelled"] == 1
    check_audit(store)


def test_removals_are_one_transaction_with_the_end(store: Engine, feed: Feed) -> None:
    batches = feed.batches(day(20), size=5)
    for batch in batches:
        feed.ingest.apply_batch(batch)
    assert len(served(store)) == 24
    feed.ingest.finish_cycle(feed.end(batches))
    moments = {line["at"] for line in rows(store, audit_log) if line["action"] == "cancelled"}
    assert (len(served(store)), len(moments)) == (20, 1)


def test_a_record_of_which_nothing_could_be_read_suspends_removals_and_keeps_what_waits(
    store: Engine, feed: Feed
) -> None:
    feed.sync(*day(2))
    bad = Rejection("row 9", "", "no columns", None, unreadable=True)
    summary = feed.sync(*day(2), rejected=[bad])
    assert (len(served(store)), summary.complete) == (24, False)
    assert summary.held is not None
    feed.ingest.accept_removal()
    assert len(served(store)) == 2


def test_a_snapshot_of_which_nothing_can_be_used_is_a_failed_fetch(store: Engine, feed: Feed) -> None:
    bad = [Rejection(f"row {n}", "patient_id", "is missing") for n in range(3)]
    success = feed.ingest.find_last_success()
    for _ in range(4):
        summary = feed.sync(rejected=bad)
        assert summary.error is not None
        assert "none of the 3 records" in summary.error
        assert (summary.held, summary.complete) == (None, False)
    assert runs(store)[-1]["error"] == summary.error
    assert "nothing is held" in feed.ingest.accept_removal()
    assert len(served(store)) == 24
    assert feed.ingest.find_last_success() == success


def test_one_record_that_can_be_used_makes_it_a_snapshot(store: Engine, feed: Feed) -> None:
    bad = Rejection("row 1", "patient_id", "is missing")
    summary = feed.sync(*day(1), rejected=[bad])
    assert summary.error is None
    assert summary.held is not None
    assert feed.sync(*day(1), rejected=[bad]).error is None


def test_a_record_whose_patient_is_among_the_refused_is_not_missing(store: Engine, feed: Feed, clock: Clock) -> None:
    bad = Rejection("row 1", "modality", "is no modality", "P023")
    for _ in range(4):
        feed.sync(*day(22), rejected=[bad])
        clock.advance(10 * MINUTE)
    assert patients(store) == [f"P{n:03}" for n in range(24) if n != 22]
    assert all(state == "live" for key, (state, _) in claims(store).items() if key == ("ris", "id:23"))
    assert [one[STATUS] for one in items(store, patient_id="P023")] == [SCHEDULED]
