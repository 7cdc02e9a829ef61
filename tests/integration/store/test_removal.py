"""What a snapshot no longer shows is cancelled, unless it cannot be trusted."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, select, update
from worklist_store import Feed, Record, check_audit, items, record, report_from_scanner, rows, runs, served

from pylantir.entry import CANCELED, COMPLETED
from pylantir.ipc.batch import Rejection
from pylantir.store.decide.claims import STATUS
from pylantir.store.schema.tables import audit_log, source_states


def day(count: int, start: int = 0) -> list[Record]:
    return [record(str(n), patient=f"P{n:03}") for n in range(start, count)]


def age_held_removal(store: Engine, by: timedelta) -> None:
    with store.begin() as connection:
        held = json.loads(connection.scalar(select(source_states.c.held)))
        held["since"] = (datetime.fromisoformat(held["since"]) - by).isoformat()
        connection.execute(update(source_states), {"held": json.dumps(held)})


@pytest.fixture
def feed(store: Engine) -> Feed:
    feed = Feed(store, "ris")
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


def test_half_is_believed(store: Engine, feed: Feed) -> None:
    assert feed.sync(*day(12)).held is None
    assert len(served(store)) == 12


def test_what_an_operator_accepts_is_removed_once(store: Engine, feed: Feed) -> None:
    feed.sync(*day(2))
    feed.ingest.accept_removal()
    feed.restart()
    assert feed.sync(*day(2)).held is None
    assert len(served(store)) == 2
    feed.sync(*day(24))
    assert feed.sync(*day(2)).held is not None
    check_audit(store)


def test_a_failed_fetch_does_not_use_up_the_acceptance(store: Engine, feed: Feed) -> None:
    feed.sync()
    feed.ingest.accept_removal()
    feed.sync(error="down")
    assert feed.sync().held is None
    assert served(store) == []


def test_the_same_picture_for_a_quarter_of_an_hour_is_believed_across_restarts(store: Engine, feed: Feed) -> None:
    for _ in range(4):
        feed.restart()
        assert feed.sync(*day(2)).held is not None
    age_held_removal(store, timedelta(minutes=15))
    feed.restart()
    assert feed.sync(*day(2)).held is None
    assert len(served(store)) == 2


def test_another_picture_waits_anew(store: Engine, feed: Feed) -> None:
    for _ in range(3):
        feed.sync(*day(2))
    age_held_removal(store, timedelta(minutes=15))
    feed.restart()
    held = feed.sync(*day(3)).held
    assert held is not None
    assert held.times == 1
    assert datetime.now(UTC) - datetime.fromisoformat(held.since) < timedelta(minutes=5)


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
    feed.ingest.accept_removal()
    bad = Rejection("row 9", "", "no columns", None, unreadable=True)
    summary = feed.sync(*day(2), rejected=[bad])
    assert (len(served(store)), summary.complete) == (24, False)
    assert summary.held is not None
    feed.sync(*day(2))
    assert len(served(store)) == 2
