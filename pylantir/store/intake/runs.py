"""The finished cycles of each source, a row of `sync_runs` each. Written by the writer."""

from __future__ import annotations

from sqlalchemy import Connection, Row, insert, select

from pylantir.store.intake.quarantine import storable
from pylantir.store.intake.state import COUNTS, CycleState
from pylantir.store.schema.tables import sync_runs

_RUNS = sync_runs.c


def save_run(
    connection: Connection, source: str, cycle: CycleState, *, complete: bool, error: str | None, now: str
) -> None:
    """Add the row of a cycle that is over, one way or another."""
    run = {"data_source": source, "started_at": cycle.started_at, "finished_at": now}
    outcome = {"complete": int(complete), "error": None if error is None else storable(error)}
    connection.execute(insert(sync_runs), {**run, **cycle.counts, **outcome})


def find_last_run(connection: Connection, source: str) -> Row[tuple[object, ...]] | None:
    """The row of the source's last cycle."""
    statement = select(sync_runs).where(_RUNS.data_source == source).order_by(_RUNS.id.desc()).limit(1)
    return connection.execute(statement).one_or_none()


def read_counts(run: Row[tuple[object, ...]]) -> dict[str, int]:
    """What a cycle did, by its row."""
    return {name: getattr(run, name) for name in COUNTS}


def find_last_success(connection: Connection, source: str) -> str | None:
    """When the source's last successful cycle began (ISO 8601, UTC)."""
    succeeded = select(_RUNS.started_at).where(_RUNS.data_source == source, _RUNS.error.is_(None))
    started_at: str | None = connection.scalar(succeeded.order_by(_RUNS.id.desc()).limit(1))
    return started_at
