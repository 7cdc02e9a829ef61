"""What a child says of itself, and what the supervisor makes of it."""

from __future__ import annotations

import json

import pytest

from workers.supervisor.children.lifecycle import LONGEST_PROMISE_S
from workers.supervisor.children.news import News


def test_the_last_value_of_each_name_counts() -> None:
    news = News(0.0)
    news.take({"entries": 1, "last_error": "no file"}, 1.0)
    news.take({"last_error": None}, 2.0)
    assert news.values == {"entries": 1, "last_error": None}


def test_what_no_child_may_report_is_left_out() -> None:
    news = News(0.0)
    news.take({"pid": 1, "state": "RUNNING", "entries": 2}, 1.0)
    assert news.values == {"entries": 2}


def test_a_value_is_never_longer_than_status_can_show() -> None:
    news = News(0.0)
    news.take({"last_error": "x" * 10_000, "last_counts": {str(number): number for number in range(10_000)}}, 1.0)
    assert len(json.dumps(news.values)) < 5000
    assert news.values["last_counts"] is None


def test_the_next_incarnation_keeps_what_the_source_has_done_but_not_what_the_process_was_at() -> None:
    news = News(0.0)
    news.take({"last_success": "2026-08-03T10:00:00", "entries": 7, "progress": 3, "database": "locked"}, 1.0)
    news.begin(5.0)
    assert news.values == {"last_success": "2026-08-03T10:00:00", "entries": 7}
    assert news.last_sign_at == 5.0


def test_a_cycle_that_was_on_time_says_when_the_next_one_is_expected() -> None:
    news = News(0.0)
    assert news.take({"next_in_s": 60, "on_time": True}, 100.0) == 160.0
    assert news.expected_at == 160.0


def test_a_cycle_that_was_late_or_failed_does_not_move_the_expectation() -> None:
    news = News(0.0)
    news.take({"next_in_s": 60, "on_time": True}, 100.0)
    assert news.take({"next_in_s": 60}, 200.0) == 260.0
    assert news.expected_at == 160.0


@pytest.mark.parametrize("next_in_s", [None, "soon", -1, LONGEST_PROMISE_S, float("nan")])
def test_a_senseless_promise_is_none(next_in_s: object) -> None:
    news = News(0.0)
    assert news.take({"next_in_s": next_in_s, "on_time": True}, 100.0) is None
    assert news.expected_at is None


def test_a_source_that_changes_hosts_begins_its_timetable_anew() -> None:
    news = News(0.0)
    news.take({"next_in_s": 60, "on_time": True}, 100.0)
    news.take({"standby": "other"}, 110.0)
    assert (news.expected_at, news.wanted_since) == (None, 110.0)
    news.take({"standby": "other"}, 120.0)
    assert news.wanted_since == 110.0
