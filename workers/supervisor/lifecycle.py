"""The life of a supervised process as one table. Pure: time and jitter are passed in."""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

from pylantir.schedule import backoff_delay


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
    EXITED = "EXITED"
    MISCONFIGURED = "MISCONFIGURED"


TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.STOPPED, Event.SPAWNED): State.STARTING,
    (State.STOPPED, Event.STOP): State.STOPPED,
    (State.STARTING, Event.READY): State.RUNNING,
    (State.STARTING, Event.STOP): State.STOPPING,
    (State.STARTING, Event.EXITED): State.BACKOFF,
    (State.STARTING, Event.MISCONFIGURED): State.FATAL,
    (State.RUNNING, Event.READY): State.RUNNING,
    (State.RUNNING, Event.STOP): State.STOPPING,
    (State.RUNNING, Event.EXITED): State.BACKOFF,
    (State.RUNNING, Event.MISCONFIGURED): State.FATAL,
    (State.BACKOFF, Event.SPAWNED): State.STARTING,
    (State.BACKOFF, Event.STOP): State.STOPPED,
    (State.STOPPING, Event.READY): State.STOPPING,
    (State.STOPPING, Event.STOP): State.STOPPING,
    (State.STOPPING, Event.EXITED): State.STOPPED,
    (State.STOPPING, Event.MISCONFIGURED): State.STOPPED,
    (State.FATAL, Event.SPAWNED): State.STARTING,
    (State.FATAL, Event.STOP): State.STOPPED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifecycle:
    """One process's life.

    Attributes:
        state: Where it stands.
        since: When it came there (monotonic seconds).
        failures: Crashes since the last useful work.
        retry_at: When it is started again, in BACKOFF.
        restarts: Starts after the first one.
    """

    state: State = State.STOPPED
    since: float = 0.0
    failures: int = 0
    retry_at: float | None = None
    restarts: int = -1


def advance(life: Lifecycle, event: Event, *, now: float, cap_s: float = 60.0, jitter: float = 0.0) -> Lifecycle:
    """Take one step.

    Args:
        life: What was.
        event: What has happened.
        now: Monotonic seconds.
        cap_s: Longest delay before a restart.
        jitter: Share by which the delay is varied, -0.2 to 0.2.

    Raises:
        ValueError: The event cannot happen in this state: a defect of the supervisor.
    """
    try:
        state = TRANSITIONS[life.state, event]
    except KeyError:
        msg = f"{event} cannot happen in state {life.state}"
        raise ValueError(msg) from None
    life = replace(life, state=state, since=now if state != life.state else life.since, retry_at=None)
    if state is State.BACKOFF:
        delay = backoff_delay(life.failures + 1, cap_s=cap_s, jitter=jitter)
        return replace(life, failures=life.failures + 1, retry_at=now + delay)
    if event is Event.SPAWNED:
        return replace(life, restarts=life.restarts + 1)
    return life


def prove_useful(life: Lifecycle) -> Lifecycle:
    """Forget earlier crashes: the process has done useful work since."""
    return replace(life, failures=0)
