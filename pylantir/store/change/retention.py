"""Deletes old items on an operator's command, and old history as configured. Lives in the writer.

It deletes in portions, each in its own transaction, so that the writer can answer scanners' reports in between.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, Engine, RowMapping, Select, delete, func, select

from pylantir.store.decide.claims import Rules
from pylantir.store.decide.records import IDENTIFIERS, REFUSED, WITHDRAWN
from pylantir.store.intake.changes import NOT_AUDITED
from pylantir.store.intake.differences import forget_differences
from pylantir.store.intake.records import CHUNK, chunks, find_holding_patients
from pylantir.store.intake.state import Clock, system_time, utc_now
from pylantir.store.intake.working_set import WorkingSet
from pylantir.store.schema.audit_guard import add_lines, allow_deletion, forbid_changes
from pylantir.store.schema.tables import NOT_LIVE, audit_log, source_entries, sync_runs, worklist_items

PORTION = 10 * CHUNK
_ITEMS = worklist_items.c
_ENTRIES = source_entries.c


def purge_items(
    engine: Engine, before: str, rules: Rules, *, dry_run: bool = False, clock: Clock = system_time
) -> Generator[None, None, str]:
    """Delete items that are scheduled before a day and that no source gives any more; their audit lines stay.

    Records of other patients that were refused because of these items' numbers are admitted at once.

    Args:
        engine: The database.
        before: The day, YYYYMMDD.
        rules: Priorities and the matching rule.
        dry_run: Only count.
        clock: Returns the time.

    Yields:
        After each portion.

    Returns:
        What was done, for the operator.
    """
    # Look up by patient, which has an index; searching the list of all claimed items would take too long.
    given = (
        select(_ENTRIES.id)
        .where(_ENTRIES.patient_id == _ITEMS.patient_id, _ENTRIES.item_id == _ITEMS.id, _ENTRIES.state != WITHDRAWN)
        .exists()
    )
    is_old = (_ITEMS.scheduled_start_date < before, ~given)
    if dry_run:
        with engine.connect() as connection:
            count = connection.scalar(select(func.count()).select_from(worklist_items).where(*is_old))
        return f"{count} items scheduled before {before} would be deleted"
    deleted, last = 0, 0
    while True:
        with engine.begin() as connection:
            portion = select(worklist_items).where(*is_old, _ITEMS.id > last).order_by(_ITEMS.id).limit(PORTION)
            rows = connection.execute(portion).mappings().all()
            if rows:
                _delete_items(connection, rows, rules, utc_now(clock))
        if not rows:
            return f"{deleted} items scheduled before {before} deleted"
        deleted, last = deleted + len(rows), rows[-1]["id"]
        yield


def _delete_items(connection: Connection, rows: Sequence[RowMapping], rules: Rules, now: str) -> None:
    add_lines(connection, [_last_words(row, now) for row in rows])
    for chunk in chunks(rows):
        ids = [row["id"] for row in chunk]
        patients = {row["patient_id"] for row in chunk}
        connection.execute(delete(source_entries).where(_ENTRIES.patient_id.in_(patients), _ENTRIES.item_id.in_(ids)))
        connection.execute(delete(worklist_items).where(_ITEMS.id.in_(ids)))
        forget_differences(connection, patients, set(ids))
    if connection.scalar(select(_ENTRIES.id).where(NOT_LIVE, _ENTRIES.state == REFUSED).limit(1)) is None:
        return
    working = WorkingSet(connection, rules, actor="command:purge", now=now)
    for column in IDENTIFIERS:
        values = sorted({str(row[column]) for row in rows if row[column]})
        working.load(find_holding_patients(connection, column, values, (REFUSED,)))
    for row in rows:
        working.free(row)
    working.write()


def _last_words(item: RowMapping, now: str) -> dict[str, object]:
    """Return the audit log's row about a deleted item, with its values, so that its earlier rows can be understood."""
    changes = {name: [value, None] for name, value in item.items() if value is not None and name not in NOT_AUDITED}
    return {
        "at": now,
        "actor": "command:purge",
        "action": "purged",
        "item_id": item["id"],
        "patient_id": item["patient_id"],
        "changes": json.dumps(changes, ensure_ascii=False),
    }


def prune_history(engine: Engine, *, audit_days: int | None, runs_days: int | None, now: datetime) -> Iterator[int]:
    """Delete rows of the audit log and of `sync_runs` that are older than configured.

    Args:
        engine: The database.
        audit_days: Days of the audit log to keep; None keeps all.
        runs_days: Days of `sync_runs` to keep; each source's last run always stays; None keeps all.
        now: The time, in UTC.

    Yields:
        The number of deleted rows, after each portion.
    """
    while audit_days is not None and (count := _prune_audit(engine, _days_before(now, audit_days))):
        yield count
    while runs_days is not None and (count := _prune_runs(engine, _days_before(now, runs_days))):
        yield count


def _prune_audit(engine: Engine, before: str) -> int:
    """Delete a portion of the oldest lines; line numbers follow the order of time."""
    oldest = select(audit_log.c.id, audit_log.c.at).order_by(audit_log.c.id).limit(PORTION)
    with engine.begin() as connection:
        ids = [number for number, at in connection.execute(oldest).all() if at < before]
        if ids:
            allow_deletion(connection)
            for chunk in chunks(ids):
                connection.execute(delete(audit_log).where(audit_log.c.id.in_(chunk)))
            forbid_changes(connection)
    return len(ids)


def _prune_runs(engine: Engine, before: str) -> int:
    runs = sync_runs.c
    with engine.begin() as connection:
        kept = connection.scalars(_LAST_RUNS).all()
        oldest = select(runs.id, runs.started_at).where(runs.id.not_in(kept)).order_by(runs.id).limit(PORTION)
        ids = [number for number, at in connection.execute(oldest).all() if at < before]
        for chunk in chunks(ids):
            connection.execute(delete(sync_runs).where(runs.id.in_(chunk)))
    return len(ids)


_LAST_RUNS: Select[tuple[int]] = (
    select(func.max(sync_runs.c.id)).where(sync_runs.c.error.is_(None)).group_by(sync_runs.c.data_source)
)
"""The last successful run of each source; an incremental source continues from it."""


def _days_before(now: datetime, days: int) -> str:
    return (now.astimezone(UTC) - timedelta(days=days)).isoformat(timespec="microseconds")
