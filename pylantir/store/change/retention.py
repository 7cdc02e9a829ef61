"""Letting go of what is old: items by an operator's word, history by the configuration. Lives in the writer."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine, RowMapping, Select, delete, func, select

from pylantir.store.decide.records import WITHDRAWN
from pylantir.store.intake.changes import NOT_AUDITED
from pylantir.store.intake.records import chunks
from pylantir.store.intake.state import utc_now
from pylantir.store.schema.audit_guard import allow_deletion, forbid_changes
from pylantir.store.schema.bulk import insert_rows
from pylantir.store.schema.tables import audit_log, source_entries, sync_runs, worklist_items

_ITEMS = worklist_items.c
_ENTRIES = source_entries.c


def purge_items(engine: Engine, before: str) -> str:
    """Delete the items scheduled before a day that no source gives any more; what was audited about them stays.

    Args:
        engine: The database.
        before: The day, YYYYMMDD.

    Returns:
        What was done, for the operator.
    """
    given = select(_ENTRIES.item_id).where(_ENTRIES.state != WITHDRAWN, _ENTRIES.item_id.is_not(None))
    now = utc_now()
    with engine.begin() as connection:
        old = connection.scalars(
            select(_ITEMS.id).where(_ITEMS.scheduled_start_date < before, _ITEMS.id.not_in(given))
        ).all()
        for chunk in chunks(old):
            rows = connection.execute(select(worklist_items).where(_ITEMS.id.in_(chunk))).mappings()
            insert_rows(connection, audit_log, [_last_words(row, now) for row in rows])
            connection.execute(delete(source_entries).where(_ENTRIES.item_id.in_(chunk)))
            connection.execute(delete(worklist_items).where(_ITEMS.id.in_(chunk)))
    return f"{len(old)} items scheduled before {before} deleted"


def _last_words(item: RowMapping, now: str) -> dict[str, object]:
    """The audit log's row about a deleted item: with its values, from which its earlier rows can be followed back."""
    changes = {name: [value, None] for name, value in item.items() if value is not None and name not in NOT_AUDITED}
    return {
        "at": now,
        "actor": "command:purge",
        "action": "purged",
        "item_id": item["id"],
        "patient_id": item["patient_id"],
        "changes": json.dumps(changes, ensure_ascii=False),
    }


def prune_history(engine: Engine, *, audit_days: int | None, runs_days: int | None, now: datetime) -> int:
    """Delete what the configuration does not keep of the audit log and of `sync_runs`; tells how many rows.

    Args:
        engine: The database.
        audit_days: So many days of the audit log are kept; None keeps all.
        runs_days: So many days of `sync_runs` are kept, and in any case each source's last run; None keeps all.
        now: The time, in UTC.
    """
    deleted = 0
    with engine.begin() as connection:
        if audit_days is not None:
            old = audit_log.c.at < _days_before(now, audit_days)
            if connection.scalar(select(audit_log.c.id).where(old).limit(1)) is not None:
                allow_deletion(connection)
                deleted += connection.execute(delete(audit_log).where(old)).rowcount
                forbid_changes(connection)
        if runs_days is not None:
            old = sync_runs.c.started_at < _days_before(now, runs_days)
            deleted += connection.execute(delete(sync_runs).where(old, sync_runs.c.id.not_in(_last_runs()))).rowcount
    return deleted


def _last_runs() -> Select[tuple[int]]:
    """The last successful run of each source: where an incremental one goes on from."""
    runs = sync_runs.c
    return select(func.max(runs.id)).where(runs.error.is_(None)).group_by(runs.data_source)


def _days_before(now: datetime, days: int) -> str:
    return (now.astimezone(UTC) - timedelta(days=days)).isoformat(timespec="microseconds")
