"""Where each source's cycle stands, kept in the database, so that a new writer goes on where its predecessor ended."""

from __future__ import annotations

import json
from collections.abc import Mapping

from sqlalchemy import Connection, bindparam, insert, select, update

from pylantir.store.decide.removal import HeldRemoval
from pylantir.store.intake.state import CycleState
from pylantir.store.schema.tables import source_states

_STATES = source_states.c


def read_progress(connection: Connection, source: str) -> tuple[CycleState | None, HeldRemoval | None]:
    """The cycle in progress, which an earlier writer began, and what is held back."""
    row = connection.execute(select(source_states).where(_STATES.data_source == source)).one_or_none()
    held = HeldRemoval.from_json(json.loads(row.held)) if row and row.held else None
    cycle = None
    if row and row.cycle:
        counts = json.loads(row.counts)
        cycle = CycleState(row.cycle, row.started_at, row.last_seq, whole=False, counts=counts)
    return cycle, held


def save_progress(connection: Connection, source: str, cycle: CycleState) -> None:
    """Note how far a cycle has come."""
    position = {"cycle": cycle.cycle, "started_at": cycle.started_at, "last_seq": cycle.last_seq}
    _save(connection, source, {**position, "counts": json.dumps(cycle.counts)})


def clear_progress(connection: Connection, source: str, held: HeldRemoval | None) -> None:
    """Note that a cycle is over, and what it holds back."""
    row: dict[str, object] = {"cycle": None, "started_at": None, "last_seq": 0, "counts": "{}"}
    row["held"] = json.dumps(held.as_json()) if held else None
    _save(connection, source, row)


def end_hold(connection: Connection, source: str) -> None:
    """Note that nothing is held back any more."""
    _save(connection, source, {"held": None})


_UPDATE = update(source_states).where(_STATES.data_source == bindparam("source"))


def _save(connection: Connection, source: str, values: Mapping[str, object]) -> None:
    if not connection.execute(_UPDATE, {"source": source, **values}).rowcount:
        defaults = {"data_source": source, "last_seq": 0, "counts": "{}"}
        connection.execute(insert(source_states), {**defaults, **values})
