"""A host whose clock is not the database server's is told, once, and deletes nothing by a clock that is ahead."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylantir.store.hosts.clocks import CLOCKS_DIFFER_S, ClockComparison, difference_s

SERVER = datetime(2026, 11, 27, 12, tzinfo=UTC)


@given(ahead=st.integers(-(10**9), 10**9), there=st.integers(0, 100), back=st.integers(0, 100))
def test_the_way_to_the_server_and_back_is_no_difference(ahead: int, there: int, back: int) -> None:
    found = difference_s(10**9 + ahead - there, 10**9, 10**9 + ahead + back)
    assert found == (max(0, ahead - there) if ahead >= 0 else min(0, ahead + back))


@pytest.mark.parametrize(
    ("ahead", "said"),
    [
        (timedelta(days=2), "this machine's clock is 2 days, 0:00:00 ahead of the database server's; set both by NTP"),
        (timedelta(hours=-1), "this machine's clock is 1:00:00 behind the database server's; set both by NTP"),
        (timedelta(seconds=CLOCKS_DIFFER_S), None),
        (timedelta(seconds=-CLOCKS_DIFFER_S), None),
    ],
)
def test_a_difference_is_told_once_and_its_end_too(
    ahead: timedelta, said: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    now = [SERVER + ahead]
    clocks = ClockComparison(lambda: now[0])
    for _ in range(3):
        clocks.ask(SERVER.timestamp)
    assert clocks.told == said
    assert clocks.earlier() == min(now[0], SERVER)
    assert [line.partition(" the database")[0] for line in caplog.messages] == (
        [said.partition(" the database")[0]] if said else []
    )
    caplog.clear()
    now[0] -= 2 * ahead
    clocks.ask(SERVER.timestamp)
    assert len(caplog.messages) == bool(said)
    assert (clocks.told != said) is bool(said)
    caplog.clear()
    now[0] = SERVER
    clocks.ask(SERVER.timestamp)
    assert clocks.told is None
    assert caplog.messages == (["this machine's clock agrees with the database server's again"] if said else [])
