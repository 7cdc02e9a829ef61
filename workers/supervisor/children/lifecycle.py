"""The state machine of a supervised process. Only this file changes its state. Pure: time and jitter are passed in.

`Lifecycle` is a value; every function that reports an event returns the next one. `Child` keeps the current one,
reports events to it, asks it what is due (`next_action`), and does that. Nothing else decides when a process is
started, aborted or killed.

A life is a chain of incarnations: processes under one name, one after the other. Three things describe it.

**The state**, which `status` shows. `TRANSITIONS` is the whole table; an event that the table lacks for a state is a
defect of the supervisor and raises.

- A process exists in STARTING, RUNNING and STOPPING, and in no other state.
- STARTING becomes RUNNING when the process says that it is ready.
- A process that ends although nobody asked it to leads to BACKOFF, from which the next one is spawned at `retry_at`: at
  once after the first failure, then after 1, 2, 4 … seconds. `prove_useful` resets this delay.
- STOP is final: STOPPING, then STOPPED when the process has ended. Only a new SPAWNED leaves STOPPED.
- A process that says that its configuration is wrong leads to FATAL: only a reload starts it again.

**Two deadlines** of the process that runs, at most one of which is set:

- `hang_at`: the process must give a sign of life before this moment. Each says when the next one will come. If none
  comes in time, the supervisor aborts the process (which writes its traceback into the log) and sets `kill_at`.
- `kill_at`: the process was told to end, by STOP, RESTART or an abort, and is killed if it still runs at this moment.
  While it is set, signs of life no longer count: a process that must end cannot postpone its end.

The end of the process clears both, and so does the start of the next one. A kill moves `kill_at` on, so that the kill
is repeated if it had no effect.

**Whether the next process starts at once** (`is_replaced`): RESTART tells a process to end but does not change its
state, so its end leads to BACKOFF without a delay. A STOP that comes meanwhile wins.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, replace

from pylantir.schedule import backoff_delay

START_GRACE_S = 30.0
"""The longest time between two signs of life of a process that is not ready yet."""
START_PROCESSOR_S = 10.0
"""A process that has used less of a processor than this, and would use more, has not had its grace yet."""
LONGEST_START_S = 300.0
LONGEST_PROMISE_S = 7 * 86400.0
LATE_S = 0.5
"""How much later than promised a sign of life may come."""
ABORT_S = 1.0
"""How long an aborted process may take to write its traceback."""
KILL_AGAIN_S = 1.0
START_TAKES_S = 3.0
"""After this time the supervisor no longer waits for a process to become ready and starts the next ones."""
FIRST_TAKE_S = 10.0
"""The same for the processes that scanners wait for."""


class State(enum.StrEnum):
    """The state of a process."""

    STARTING = "STARTING"
    RUNNING = "RUNNING"
    BACKOFF = "BACKOFF"
    STOPPING = "STOPPING"
    STOPPED = "STOPPED"
    FATAL = "FATAL"


class Event(enum.StrEnum):
    """What happens to a process."""

    SPAWNED = "SPAWNED"
    READY = "READY"
    STOP = "STOP"
    RESTART = "RESTART"
    EXITED = "EXITED"
    MISCONFIGURED = "MISCONFIGURED"


class Action(enum.StrEnum):
    """What the supervisor must do about a process now."""

    SPAWN = "SPAWN"
    ABORT = "ABORT"
    KILL = "KILL"


ALIVE = frozenset({State.STARTING, State.RUNNING, State.STOPPING})
"""The states in which a process exists."""

TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.STOPPED, Event.SPAWNED): State.STARTING,
    (State.STOPPED, Event.STOP): State.STOPPED,
    (State.STARTING, Event.READY): State.RUNNING,
    (State.STARTING, Event.STOP): State.STOPPING,
    (State.STARTING, Event.RESTART): State.STARTING,
    (State.STARTING, Event.EXITED): State.BACKOFF,
    (State.STARTING, Event.MISCONFIGURED): State.FATAL,
    (State.RUNNING, Event.READY): State.RUNNING,
    (State.RUNNING, Event.STOP): State.STOPPING,
    (State.RUNNING, Event.RESTART): State.RUNNING,
    (State.RUNNING, Event.EXITED): State.BACKOFF,
    (State.RUNNING, Event.MISCONFIGURED): State.FATAL,
    (State.BACKOFF, Event.SPAWNED): State.STARTING,
    (State.BACKOFF, Event.STOP): State.STOPPED,
    (State.STOPPING, Event.READY): State.STOPPING,
    (State.STOPPING, Event.STOP): State.STOPPING,
    (State.STOPPING, Event.RESTART): State.STOPPING,
    (State.STOPPING, Event.EXITED): State.STOPPED,
    (State.STOPPING, Event.MISCONFIGURED): State.STOPPED,
    (State.FATAL, Event.SPAWNED): State.STARTING,
    (State.FATAL, Event.STOP): State.STOPPED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifecycle:
    """One process's life. All moments are monotonic seconds.

    Attributes:
        state: Its state.
        since: When it entered this state.
        failures: Crashes since the last useful work.
        retry_at: When it is started again, in BACKOFF.
        restarts: Starts after the first one.
        hang_at: When it counts as hung, unless a sign of life comes before.
        kill_at: When it is killed, unless it ends before.
        is_replaced: It was told to end, and the next incarnation follows at once.
    """

    state: State = State.STOPPED
    since: float = 0.0
    failures: int = 0
    retry_at: float | None = None
    restarts: int = -1
    hang_at: float | None = None
    kill_at: float | None = None
    is_replaced: bool = False

    @property
    def is_to_come(self) -> bool:
        """Whether the process has not been started yet and was not told to stop."""
        return self.state is State.STOPPED and self.restarts < 0


def spawned(life: Lifecycle, now: float) -> Lifecycle:
    """An incarnation has been started; it may take `START_GRACE_S` until its first sign of life."""
    life = _move(life, Event.SPAWNED, now)
    return replace(
        life, restarts=life.restarts + 1, hang_at=now + START_GRACE_S, kill_at=None, is_replaced=False, retry_at=None
    )


def became_ready(life: Lifecycle, now: float) -> Lifecycle:
    """The process has said that it is ready."""
    return _move(life, Event.READY, now)


def gave_sign(life: Lifecycle, now: float, within_s: float) -> Lifecycle:
    """The process has given a sign of life, and promised the next one within `within_s` seconds.

    A value that is no usable number of seconds (JSON has NaN and endless integers) counts as the longest promise.
    """
    if life.kill_at is not None or life.state not in ALIVE:
        return life
    promised_s = within_s if 0 <= within_s < LONGEST_PROMISE_S else LONGEST_PROMISE_S
    return replace(life, hang_at=now + promised_s + LATE_S)


def gave_time(life: Lifecycle, now: float) -> Lifecycle:
    """The process that starts has got hardly any processor time: it gets a further grace, but not for ever."""
    if life.state is not State.STARTING or life.kill_at is not None or now - life.since >= LONGEST_START_S:
        return life
    return replace(life, hang_at=now + START_GRACE_S)


def asked_to_stop(life: Lifecycle, now: float, grace_s: float) -> Lifecycle:
    """The process must end within `grace_s` seconds, and no other follows. An earlier deadline stays."""
    life = replace(_move(life, Event.STOP, now), is_replaced=False, retry_at=None)
    if life.state not in ALIVE:
        return life
    kill_at = now + grace_s if life.kill_at is None else min(now + grace_s, life.kill_at)
    return replace(life, hang_at=None, kill_at=kill_at)


def asked_to_restart(life: Lifecycle, now: float, grace_s: float) -> Lifecycle:
    """The process must end within `grace_s` seconds; another follows at once, and earlier crashes are forgotten."""
    life = replace(_move(life, Event.RESTART, now), failures=0)
    return replace(life, hang_at=None, kill_at=now + grace_s, is_replaced=life.state is not State.STOPPING)


def found_hanging(life: Lifecycle, now: float) -> Lifecycle:
    """The process is being aborted and has a moment to write its traceback."""
    return replace(life, hang_at=None, kill_at=now + ABORT_S)


def killed(life: Lifecycle, now: float) -> Lifecycle:
    """The supervisor has sent SIGKILL; it sends it again if that has no effect."""
    return replace(life, hang_at=None, kill_at=now + KILL_AGAIN_S)


def ended(
    life: Lifecycle, now: float, *, misconfigured: bool = False, cap_s: float = 60.0, jitter: float = 0.0
) -> Lifecycle:
    """The process has ended, or could not be started.

    Args:
        life: Its life so far.
        now: Monotonic seconds.
        misconfigured: The process said that it cannot run with this configuration.
        cap_s: Longest delay before the next start.
        jitter: Share by which the delay is varied, -0.2 to 0.2.
    """
    life = _move(life, Event.MISCONFIGURED if misconfigured else Event.EXITED, now)
    life = replace(life, hang_at=None, kill_at=None)
    if life.state is not State.BACKOFF:
        return life
    delay = backoff_delay(life.failures + 1, cap_s=cap_s, jitter=jitter)
    return replace(life, failures=life.failures + 1, retry_at=now + delay)


def may_start(first: Iterable[Lifecycle], others: Iterable[Lifecycle], now: float, at_once: int) -> int:
    """Return how many more processes may be started for the first time now.

    If hundreds started together on a few processors, all would be slow, and a scanner would wait for the server.

    Args:
        first: The processes that scanners wait for.
        others: All other processes.
        now: Monotonic seconds.
        at_once: How many of the others may be starting at the same time; until the first are ready, half as many.
    """
    first = list(first)
    to_come = sum(life.is_to_come for life in first)
    is_awaited = to_come or any(_is_starting(life, now, FIRST_TAKE_S) for life in first)
    starting = sum(_is_starting(life, now, START_TAKES_S) for life in others)
    return to_come + max(0, (at_once // 2 if is_awaited else at_once) - starting)


def _is_starting(life: Lifecycle, now: float, within_s: float) -> bool:
    return life.state is State.STARTING and now - life.since < within_s


def prove_useful(life: Lifecycle) -> Lifecycle:
    """Forget earlier crashes: the process has done useful work since."""
    return replace(life, failures=0)


def next_action(life: Lifecycle, now: float, *, may_restart: bool) -> Action | None:
    """Return what must be done now, if anything, because the deadline of this state has passed."""
    if life.kill_at is not None:
        return Action.KILL if now >= life.kill_at else None
    if life.hang_at is not None:
        return Action.ABORT if now >= life.hang_at else None
    if may_restart and life.retry_at is not None and now >= life.retry_at:
        return Action.SPAWN
    return None


def next_deadline(life: Lifecycle, *, may_restart: bool) -> float | None:
    """Return when to call `next_action` again if nothing happens before."""
    if life.kill_at is not None:
        return life.kill_at
    if life.hang_at is not None:
        return life.hang_at
    return life.retry_at if may_restart else None


def _move(life: Lifecycle, event: Event, now: float) -> Lifecycle:
    """Take one step of the table.

    Raises:
        ValueError: The event cannot happen in this state: a defect of the supervisor.
    """
    try:
        state = TRANSITIONS[life.state, event]
    except KeyError:
        msg = f"{event} cannot happen in state {life.state}"
        raise ValueError(msg) from None
    return replace(life, state=state, since=now if state != life.state else life.since)
