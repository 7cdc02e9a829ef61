"""Where each source's cycle stands, so that a new writer goes on there, and a row of `sync_runs` per finished cycle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select

from pylantir.store.decide.removal import HeldRemoval
from pylantir.store.intake.quarantine import storable
from pylantir.store.intake.state import COUNTS, CycleState
from pylantir.store.schema.tables import NOT_LIVE, source_entries, source_states, sync_runs

_STATES = source_states.c
_RUNS = sync_runs.c


def read_progress(connection: Connection, source: str) -> tuple[CycleState | None, HeldRemoval | None, str | None]:
    """Return the cycle that an earlier writer began, the removal that is held back, and the mark of the last commit."""
    row = connection.execute(select(source_states).where(_STATES.data_source == source)).one_or_none()
    held = HeldRemoval.from_json(json.loads(row.held)) if row and row.held else None
    cycle = None
    if row and row.cycle:
        counts = json.loads(row.counts)
        cycle = CycleState(row.cycle, row.started_at, row.last_seq, whole=False, counts=counts)
    return cycle, held, row.mark if row else None


def save_progress(connection: Connection, source: str, cycle: CycleState, mark: str) -> None:
    """Store a cycle's progress."""
    position = {"cycle": cycle.cycle, "started_at": cycle.started_at, "last_seq": cycle.last_seq}
    _save(connection, source, {**position, "counts": json.dumps(cycle.counts), "mark": mark})


def clear_progress(connection: Connection, source: str, held: HeldRemoval | None, mark: str) -> None:
    """Store that a cycle is finished, and the removal that it holds back."""
    row: dict[str, object] = {"cycle": None, "started_at": None, "last_seq": 0, "counts": "{}", "mark": mark}
    row["held"] = json.dumps(held.as_json()) if held else None
    _save(connection, source, row)


def end_hold(connection: Connection, source: str, mark: str) -> None:
    """Store that nothing is held back any more."""
    _save(connection, source, {"held": None, "mark": mark})


def _save(connection: Connection, source: str, values: Mapping[str, object]) -> None:
    first: Any = import_module(f"sqlalchemy.dialects.{connection.dialect.name}").insert(source_states).inline()
    changed = {name: first.excluded[name] for name in values}
    saved = first.on_conflict_do_update(index_elements=["data_source"], set_=changed)
    connection.execute(saved, {"data_source": source, "last_seq": 0, "counts": "{}", **values})


def save_run(
    connection: Connection, source: str, cycle: CycleState, *, complete: bool, error: str | None, now: str
) -> None:
    """Add the row of a cycle that is over, one way or another."""
    run = {"data_source": source, "started_at": cycle.started_at, "finished_at": now}
    outcome = {"complete": int(complete), "error": None if error is None else storable(error)}
    connection.execute(insert(sync_runs).inline(), {**run, **cycle.counts, **outcome})


def find_last_run(connection: Connection, source: str) -> Row[tuple[object, ...]] | None:
    """Return the row of the source's last cycle."""
    statement = select(sync_runs).where(_RUNS.data_source == source).order_by(_RUNS.id.desc()).limit(1)
    return connection.execute(statement).one_or_none()


def read_counts(run: Row[tuple[object, ...]]) -> dict[str, int]:
    """Return the counts in a cycle's row."""
    return {name: getattr(run, name) for name in COUNTS}


def find_last_success(connection: Connection, source: str) -> str | None:
    """Return when the source's last successful cycle began (ISO 8601, UTC)."""
    succeeded = select(_RUNS.started_at).where(_RUNS.data_source == source, _RUNS.error.is_(None))
    started_at: str | None = connection.scalar(succeeded.order_by(_RUNS.id.desc()).limit(1))
    return started_at


def count_live(connection: Connection, source: str) -> int:
    """Count the source's live records using only indexes: the table itself is far larger."""
    own = select(func.count()).where(source_entries.c.data_source == source)
    everything, others = connection.execute(select(own.scalar_subquery(), own.where(NOT_LIVE).scalar_subquery())).one()
    return int(everything - others)
