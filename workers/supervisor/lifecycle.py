"""The life of a supervised process. Everything that moves it is in this file. Pure: time and jitter are passed in.

`Lifecycle` is a value; every function here returns the next one. `Child` keeps the current one, tells it what has
happened, asks it what is due (`next_action`), and does that. Nothing else decides when a process is started, aborted or
killed.

A life is a chain of incarnations: processes under one name, one after the other. Three things describe it.

**The state**, which `status` shows. `TRANSITIONS` is the whole table; an event that the table lacks for a state is a
defect of the supervisor and raises.

- There is a process in STARTING, RUNNING and STOPPING, and in no other state.
- STARTING becomes RUNNING when the process says that it is ready.
- A process that ends although nobody asked it to leads to BACKOFF, from which the next one is spawned at `retry_at`: at
  once after the first failure, then after 1, 2, 4 … seconds. `prove_useful` sets that back.
- STOP is final: STOPPING, then STOPPED when the process has ended. Only a new SPAWNED leaves STOPPED.
- A process that says that its configuration is wrong leads to FATAL: no time brings it back, only a reload.

**Two deadlines** of the process that runs, at most one of which is set:

- `hang_at`: a sign of life is expected before this moment. Each sign promises the next one. When the moment passes, the
  process is aborted (it writes where it stands into the log), which sets `kill_at`.
- `kill_at`: its end has been asked for, by STOP, RESTART or an abort, and it is killed if it still runs at this moment.
  From then on signs of life no longer count: what is to end may not postpone its end.

The end of the process clears both, and so does the start of the next one. A kill moves `kill_at` on, so that it is
repeated should the system have lost it.

**Whether a successor is wanted at once** (`is_replaced`): RESTART asks a process to end without leaving its state, so
that its end leads to BACKOFF with a delay of nothing. A STOP that comes meanwhile wins.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, replace

from pylantir.schedule import backoff_delay

START_GRACE_S = 30.0
"""A process that is not ready yet may take so long between two signs of life."""
LONGEST_PROMISE_S = 7 * 86400.0
LATE_S = 0.5
"""A sign of life may be so much later than promised."""
ABORT_S = 1.0
"""How long a process that is aborted may take to write where it stands."""
KILL_AGAIN_S = 1.0
START_TAKES_S = 3.0
"""A process that is not ready after so long gives way: the next ones are started whatever becomes of it."""


class State(enum.StrEnum):
    """Where a process stands."""

    STARTING = "STARTING"
    RUNNING = "RUNNING"
    BACKOFF = "BACKOFF"
    STOPPING = "STOPPING"
    STOPPED = "STOPPED"
    FATAL = "FATAL"


class Event(enum.StrEnum):
    """What happens to it."""

    SPAWNED = "SPAWNED"
    READY = "READY"
    STOP = "STOP"
    RESTART = "RESTART"
    EXITED = "EXITED"
    MISCONFIGURED = "MISCONFIGURED"


class Action(enum.StrEnum):
    """What is to be done about it now."""

    SPAWN = "SPAWN"
    ABORT = "ABORT"
    KILL = "KILL"


ALIVE = frozenset({State.STARTING, State.RUNNING, State.STOPPING})
"""The states in which there is a process."""

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
        state: Where it stands.
        since: When it came there.
        failures: Crashes since the last useful work.
        retry_at: When it is started again, in BACKOFF.
        restarts: Starts after the first one.
        hang_at: When it is taken for hung, unless a sign of life comes before.
        kill_at: When it is killed, unless it ends before.
        is_replaced: Its end was asked for, and the next incarnation is to follow at once.
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
        """Whether it has not been started yet, and nobody has said that it should not be."""
        return self.state is State.STOPPED and self.restarts < 0


def spawned(life: Lifecycle, now: float) -> Lifecycle:
    """An incarnation has been started; it may take `START_GRACE_S` until its first sign of life."""
    life = _move(life, Event.SPAWNED, now)
    return replace(
        life, restarts=life.restarts + 1, hang_at=now + START_GRACE_S, kill_at=None, is_replaced=False, retry_at=None
    )


def became_ready(life: Lifecycle, now: float) -> Lifecycle:
    """The process has said that it does its work from now on."""
    return _move(life, Event.READY, now)


def gave_sign(life: Lifecycle, now: float, within_s: float) -> Lifecycle:
    """The process has given a sign of life, and promised the next one within so many seconds.

    What cannot be compared as a number of seconds (JSON knows NaN and endless integers) counts as the longest promise.
    """
    if life.kill_at is not None or life.state not in ALIVE:
        return life
    promised_s = within_s if 0 <= within_s < LONGEST_PROMISE_S else LONGEST_PROMISE_S
    return replace(life, hang_at=now + promised_s + LATE_S)


def asked_to_stop(life: Lifecycle, now: float, grace_s: float) -> Lifecycle:
    """The process is to end within so many seconds, and no other is to follow. An earlier deadline stays."""
    life = replace(_move(life, Event.STOP, now), is_replaced=False, retry_at=None)
    if life.state not in ALIVE:
        return life
    kill_at = now + grace_s if life.kill_at is None else min(now + grace_s, life.kill_at)
    return replace(life, hang_at=None, kill_at=kill_at)


def asked_to_restart(life: Lifecycle, now: float, grace_s: float) -> Lifecycle:
    """The process is to end within so many seconds, and another is to follow at once; earlier crashes are forgotten."""
    life = replace(_move(life, Event.RESTART, now), failures=0)
    return replace(life, hang_at=None, kill_at=now + grace_s, is_replaced=life.state is not State.STOPPING)


def found_hanging(life: Lifecycle, now: float) -> Lifecycle:
    """The process is being aborted: it has a moment to write where it stands."""
    return replace(life, hang_at=None, kill_at=now + ABORT_S)


def killed(life: Lifecycle, now: float) -> Lifecycle:
    """The process has been sent SIGKILL; it is sent again should that have had no effect."""
    return replace(life, hang_at=None, kill_at=now + KILL_AGAIN_S)


def ended(
    life: Lifecycle, now: float, *, misconfigured: bool = False, cap_s: float = 60.0, jitter: float = 0.0
) -> Lifecycle:
    """The process has ended, or could not be started.

    Args:
        life: What was.
        now: Monotonic seconds.
        misconfigured: It said that it cannot run with this configuration.
        cap_s: Longest delay before the next start.
        jitter: Share by which the delay is varied, -0.2 to 0.2.
    """
    life = _move(life, Event.MISCONFIGURED if misconfigured else Event.EXITED, now)
    life = replace(life, hang_at=None, kill_at=None)
    if life.state is not State.BACKOFF:
        return life
    delay = backoff_delay(life.failures + 1, cap_s=cap_s, jitter=jitter)
    return replace(life, failures=life.failures + 1, retry_at=now + delay)


def may_start(lives: Iterable[Lifecycle], now: float, at_once: int) -> int:
    """Say how many more processes may be started for the first time now.

    With hundreds of them on a few processors, each would wait for all; a scanner waits for the server.

    Args:
        lives: All processes.
        now: Monotonic seconds.
        at_once: How many may be on their way to being ready.
    """
    starting = sum(life.state is State.STARTING and now - life.since < START_TAKES_S for life in lives)
    return max(0, at_once - starting)


def prove_useful(life: Lifecycle) -> Lifecycle:
    """Forget earlier crashes: the process has done useful work since."""
    return replace(life, failures=0)


def next_action(life: Lifecycle, now: float, *, may_restart: bool) -> Action | None:
    """Say what is to be done now, if anything: the one deadline of this state that has passed."""
    if life.kill_at is not None:
        return Action.KILL if now >= life.kill_at else None
    if life.hang_at is not None:
        return Action.ABORT if now >= life.hang_at else None
    if may_restart and life.retry_at is not None and now >= life.retry_at:
        return Action.SPAWN
    return None


def next_deadline(life: Lifecycle, *, may_restart: bool) -> float | None:
    """Say when `next_action` has to be asked again though nothing happens."""
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
