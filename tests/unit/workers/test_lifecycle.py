"""The life of a process: what can happen in which state, and how long it waits before it is started again."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.supervisor.children.lifecycle import (
    ABORT_S,
    ALIVE,
    FIRST_TAKE_S,
    LATE_S,
    LONGEST_PROMISE_S,
    LONGEST_START_S,
    START_GRACE_S,
    START_TAKES_S,
    TRANSITIONS,
    Action,
    Event,
    Lifecycle,
    State,
    asked_to_restart,
    asked_to_stop,
    became_ready,
    ended,
    found_hanging,
    gave_sign,
    gave_time,
    killed,
    may_start,
    next_action,
    next_deadline,
    prove_useful,
    spawned,
)

STEPS: dict[Event, Callable[[Lifecycle, float], Lifecycle]] = {
    Event.SPAWNED: spawned,
    Event.READY: became_ready,
    Event.STOP: lambda life, now: asked_to_stop(life, now, 3.0),
    Event.RESTART: lambda life, now: asked_to_restart(life, now, 3.0),
    Event.EXITED: ended,
    Event.MISCONFIGURED: lambda life, now: ended(life, now, misconfigured=True),
}


def crash(life: Lifecycle, now: float, *, cap_s: float = 60.0, jitter: float = 0.0) -> Lifecycle:
    """One start that ends in a crash."""
    return ended(spawned(life, now), now, cap_s=cap_s, jitter=jitter)


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", Event)
def test_every_pair_is_in_the_table_or_refused(state: State, event: Event) -> None:
    life = Lifecycle(state=state, since=1.0)
    if (state, event) in TRANSITIONS:
        assert STEPS[event](life, 2.0).state is TRANSITIONS[state, event]
    else:
        with pytest.raises(ValueError, match=f"{event} cannot happen in state {state}"):
            STEPS[event](life, 2.0)


def test_only_a_process_can_be_ready_or_end_and_only_without_one_is_one_started() -> None:
    for state in State:
        for event in (Event.READY, Event.RESTART, Event.EXITED, Event.MISCONFIGURED):
            if state not in ALIVE:
                assert (state, event) not in TRANSITIONS
        assert ((state, Event.SPAWNED) in TRANSITIONS) == (state not in ALIVE)


def test_whatever_its_state_a_process_can_be_stopped() -> None:
    for state in State:
        stopped = asked_to_stop(Lifecycle(state=state), 0, 3.0)
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
        starts.append(now)
        life = crash(life, now, jitter=-0.2)
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
    plain = ended(life, 0.0).retry_at
    varied = ended(life, 0.0, jitter=jitter).retry_at
    assert plain is not None
    assert varied is not None
    assert 0.8 * plain - 1e-9 <= varied <= 1.2 * plain + 1e-9


def test_useful_work_forgets_earlier_crashes() -> None:
    life = crash(crash(crash(Lifecycle(), 0), 0), 0)
    life = prove_useful(became_ready(spawned(life, 5), 6))
    life = ended(life, 9)
    assert life.retry_at == 9
    assert life.failures == 1


def test_a_wrong_configuration_is_not_retried() -> None:
    life = ended(spawned(Lifecycle(), 0), 1, misconfigured=True)
    assert life.state is State.FATAL
    assert life.retry_at is None


def test_since_tells_when_the_state_began() -> None:
    life = became_ready(spawned(Lifecycle(), 1), 2)
    assert became_ready(life, 3).since == 2


def test_a_process_is_aborted_when_a_promised_sign_of_life_does_not_come_and_killed_when_that_does_not_help() -> None:
    life = spawned(Lifecycle(), 0.0)
    assert next_deadline(life, may_restart=True) == START_GRACE_S
    life = gave_sign(became_ready(life, 1.0), 1.0, 10.0)
    assert next_action(life, 11.0, may_restart=True) is None
    assert next_action(life, 11.0 + LATE_S, may_restart=True) is Action.ABORT
    life = found_hanging(life, 12.0)
    assert next_action(life, 12.0, may_restart=True) is None
    assert next_action(life, 12.0 + ABORT_S, may_restart=True) is Action.KILL
    life = killed(life, 13.0)
    assert next_action(life, 13.0, may_restart=True) is None
    assert next_action(life, 14.0, may_restart=True) is Action.KILL


@pytest.mark.parametrize("ask", [STEPS[Event.STOP], STEPS[Event.RESTART], found_hanging, killed])
def test_what_is_to_end_cannot_postpone_that_by_signs_of_life(ask: Callable[[Lifecycle, float], Lifecycle]) -> None:
    life = ask(became_ready(spawned(Lifecycle(), 0.0), 1.0), 2.0)
    assert gave_sign(life, 3.0, 1000.0) == life
    assert next_action(life, 6.0, may_restart=True) is Action.KILL


def test_a_restart_ends_a_process_in_order_and_starts_the_next_at_once_whatever_went_before() -> None:
    life = became_ready(spawned(crash(crash(crash(Lifecycle(), 0), 0), 0), 10), 11)
    life = asked_to_restart(life, 12.0, 3.0)
    assert (life.state, life.is_replaced, life.kill_at) == (State.RUNNING, True, 15.0)
    life = ended(life, 13.0)
    assert next_action(life, 13.0, may_restart=True) is Action.SPAWN
    assert not spawned(life, 13.0).is_replaced


def test_a_stop_wins_over_a_restart_and_keeps_the_earlier_deadline() -> None:
    life = became_ready(spawned(Lifecycle(), 0.0), 1.0)
    for first, second in ((Event.RESTART, Event.STOP), (Event.STOP, Event.RESTART)):
        both = STEPS[second](STEPS[first](life, 2.0), 2.0)
        assert (both.state, both.is_replaced) == (State.STOPPING, False)
        assert ended(both, 3.0).state is State.STOPPED
    assert asked_to_stop(asked_to_restart(life, 2.0, 1.0), 2.0, 9.0).kill_at == 3.0


def test_of_many_processes_a_few_are_started_at_a_time_and_none_waits_for_one_that_hangs() -> None:
    starting = [spawned(Lifecycle(), 10.0) for _ in range(3)]
    ready = [became_ready(spawned(Lifecycle(), 10.0), 10.5) for _ in range(100)]
    assert may_start([], [*starting, *ready, Lifecycle()], 11.0, at_once=4) == 1
    assert may_start([], starting, 11.0, at_once=2) == 0
    assert may_start([], starting, 10.0 + START_TAKES_S, at_once=2) == 2


def test_until_scanners_are_served_fewer_sources_are_started_at_a_time() -> None:
    to_come, starting = Lifecycle(), spawned(Lifecycle(), 10.0)
    ready = became_ready(starting, 11.0)
    assert may_start([to_come, to_come], [to_come] * 5, 10.0, at_once=4) == 4
    assert may_start([starting, starting], [to_come] * 5, 11.0, at_once=4) == 2
    assert may_start([ready, starting], [starting, starting, to_come], 11.0, at_once=4) == 0
    assert may_start([ready, ready], [starting, to_come], 11.0, at_once=4) == 3
    assert may_start([ready, starting], [to_come], 10.0 + FIRST_TAKE_S, at_once=4) == 4


def test_a_process_that_starts_and_gets_no_processor_has_more_time_but_not_for_ever() -> None:
    life = gave_time(spawned(Lifecycle(), 0.0), START_GRACE_S)
    assert next_action(life, START_GRACE_S, may_restart=True) is None
    assert next_action(life, 2 * START_GRACE_S, may_restart=True) is Action.ABORT
    assert gave_time(life, LONGEST_START_S) == life
    running = gave_sign(became_ready(life, 1.0), 1.0, 10.0)
    assert gave_time(running, 12.0) == running
    leaving = asked_to_stop(spawned(Lifecycle(), 0.0), 1.0, 3.0)
    assert gave_time(leaving, 2.0) == leaving


def test_a_process_is_to_come_until_it_is_started_for_the_first_time() -> None:
    life = Lifecycle()
    assert life.is_to_come
    assert not spawned(life, 0.0).is_to_come
    assert not ended(asked_to_stop(spawned(life, 0.0), 1.0, 3.0), 2.0).is_to_come


def test_nothing_is_started_any_more_once_everything_is_to_stop() -> None:
    life = crash(Lifecycle(), 0.0)
    assert next_action(life, 100.0, may_restart=False) is None
    assert next_deadline(life, may_restart=False) is None


@given(st.one_of(st.floats(), st.integers()))
def test_whatever_a_process_promises_it_is_looked_at_again_within_a_week(within_s: float) -> None:
    life = gave_sign(spawned(Lifecycle(), 0.0), 5.0, within_s)
    assert life.hang_at is not None
    assert 5.0 <= life.hang_at <= 5.0 + LONGEST_PROMISE_S + LATE_S


@given(st.lists(st.tuples(st.sampled_from([*Event, "sign", "hangs", "killed"]), st.floats(0, 100)), max_size=30))
def test_in_whatever_order_things_happen_only_a_process_has_a_deadline_and_at_most_one(
    happenings: list[tuple[Event | str, float]],
) -> None:
    life, now = Lifecycle(), 0.0
    others = {"sign": lambda life, now: gave_sign(life, now, 1.0), "hangs": found_hanging, "killed": killed}
    for what, pause in happenings:
        now += pause
        if isinstance(what, Event):
            if (life.state, what) not in TRANSITIONS:
                continue
            life = STEPS[what](life, now)
        elif life.state in ALIVE:
            life = others[what](life, now)
        assert life.hang_at is None or life.kill_at is None
        assert (life.retry_at is not None) == (life.state is State.BACKOFF)
        if life.state in ALIVE:
            assert life.hang_at is not None or life.kill_at is not None
        else:
            assert life.hang_at is life.kill_at is None
