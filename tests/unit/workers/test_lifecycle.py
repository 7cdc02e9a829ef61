"""The life of a process: what can happen in which state, and how long it waits before it is started again."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.supervisor.lifecycle import TRANSITIONS, Event, Lifecycle, State, advance, prove_useful

ALIVE = {State.STARTING, State.RUNNING, State.STOPPING}


def crash(life: Lifecycle, now: float, *, cap_s: float = 60.0, jitter: float = 0.0) -> Lifecycle:
    """One start that ends in a crash."""
    life = advance(life, Event.SPAWNED, now=now)
    return advance(life, Event.EXITED, now=now, cap_s=cap_s, jitter=jitter)


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", Event)
def test_every_pair_is_in_the_table_or_refused(state: State, event: Event) -> None:
    life = Lifecycle(state=state, since=1.0)
    if (state, event) in TRANSITIONS:
        assert advance(life, event, now=2.0).state is TRANSITIONS[state, event]
    else:
        with pytest.raises(ValueError, match=f"{event} cannot happen in state {state}"):
            advance(life, event, now=2.0)


def test_only_a_process_can_be_ready_or_end_and_only_without_one_is_one_started() -> None:
    for state in State:
        for event in (Event.READY, Event.EXITED, Event.MISCONFIGURED):
            if state not in ALIVE:
                assert (state, event) not in TRANSITIONS
        assert ((state, Event.SPAWNED) in TRANSITIONS) == (state not in ALIVE)


def test_whatever_its_state_a_process_can_be_stopped() -> None:
    for state in State:
        stopped = advance(Lifecycle(state=state), Event.STOP, now=0)
        assert stopped.state is (State.STOPPING if state in ALIVE else State.STOPPED)


def test_a_process_that_crashes_again_and_again_waits_longer_up_to_the_cap() -> None:
    life, delays = Lifecycle(), []
    for _ in range(10):
        life = crash(life, now=100.0)
        assert life.retry_at is not None
        delays.append(life.retry_at - 100.0)
    assert delays == [0, 1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert life.restarts == 9


def test_a_process_that_crashes_at_once_is_started_a_few_times_a_minute() -> None:
    life, now, starts = Lifecycle(), 0.0, []
    while now < 600:
        life = advance(life, Event.SPAWNED, now=now)
        starts.append(now)
        life = advance(life, Event.EXITED, now=now, jitter=-0.2)
        assert life.retry_at is not None
        now = life.retry_at
    assert len([moment for moment in starts if moment < 60]) <= 8
    assert all(later - earlier > 47 for earlier, later in pairwise(starts[8:]))


def test_a_service_waits_one_second_at_most() -> None:
    life = Lifecycle()
    for _ in range(5):
        life = crash(life, now=0.0, cap_s=1.0)
    assert life.retry_at == 1.0


@given(st.integers(1, 100), st.floats(-0.2, 0.2))
def test_jitter_varies_the_delay_by_a_fifth_at_most(failures: int, jitter: float) -> None:
    life = Lifecycle(state=State.RUNNING, failures=failures - 1)
    plain = advance(life, Event.EXITED, now=0.0).retry_at
    varied = advance(life, Event.EXITED, now=0.0, jitter=jitter).retry_at
    assert plain is not None
    assert varied is not None
    assert 0.8 * plain - 1e-9 <= varied <= 1.2 * plain + 1e-9


def test_useful_work_forgets_earlier_crashes() -> None:
    life = crash(crash(crash(Lifecycle(), 0), 0), 0)
    life = prove_useful(advance(advance(life, Event.SPAWNED, now=5), Event.READY, now=6))
    life = advance(life, Event.EXITED, now=9)
    assert life.retry_at == 9
    assert life.failures == 1


def test_a_wrong_configuration_is_not_retried() -> None:
    life = advance(advance(Lifecycle(), Event.SPAWNED, now=0), Event.MISCONFIGURED, now=1)
    assert life.state is State.FATAL
    assert life.retry_at is None


def test_since_tells_when_the_state_began() -> None:
    life = advance(advance(Lifecycle(), Event.SPAWNED, now=1), Event.READY, now=2)
    assert advance(life, Event.READY, now=3).since == 2
