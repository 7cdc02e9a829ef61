"""Deletes old items on an operator's command, and old history as configured. Lives in the writer.

It deletes in portions, each in its own transaction, so that the writer can answer scanners' reports in between.
"""

from __future__ import annotations

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
from pylantir.store.schema.audit_guard import allow_deletion, forbid_changes
from pylantir.store.schema.bulk import changes_to_nothing, delete_among, insert_copies, select_among
from pylantir.store.schema.engine import host_of, transaction
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
    count, last = 0, 0
    while True:
        with transaction(engine, dry_run=dry_run) as connection:
            end = _end_of_portion(connection, last)
            gone = _find_given_up(connection, before, range(last + 1, end + 1)) if end else []
            if gone and not dry_run:
                _delete_items(connection, gone, rules, utc_now(clock))
        if not end:
            return f"{count} items scheduled before {before} {'would be ' if dry_run else ''}deleted"
        count, last = count + len(gone), end
        yield


def _end_of_portion(connection: Connection, last: int) -> int | None:
    """Return the highest id of the next items; None if there are no more."""
    portion = select(_ITEMS.id).where(_ITEMS.id > last).order_by(_ITEMS.id).limit(PORTION).subquery()
    end: int | None = connection.scalar(select(func.max(portion.c.id)))
    return end


def _find_given_up(connection: Connection, before: str, ids: range) -> Sequence[RowMapping]:
    """Return the old items among these that no source gives, with their identifiers."""
    columns = (_ITEMS.id, _ITEMS.patient_id, *(_ITEMS[name] for name in IDENTIFIERS))
    is_old = (_ITEMS.id.between(ids[0], ids[-1]), _ITEMS.scheduled_start_date < before)
    rows = connection.execute(select(*columns).where(*is_old).order_by(_ITEMS.id)).mappings().all()
    patients = {row["patient_id"] for row in rows}
    # By patient, which has an index. Two statements: a database that joins the tables may read all of them each time.
    claimed = f"state <> '{WITHDRAWN}' AND item_id BETWEEN {ids[0]} AND {ids[-1]}"
    given = select_among(connection, source_entries, ("item_id",), "patient_id", patients, condition=claimed)
    claims = {number for (number,) in given}
    return [row for row in rows if row["id"] not in claims]


def _delete_items(connection: Connection, rows: Sequence[RowMapping], rules: Rules, now: str) -> None:
    ids, patients = [row["id"] for row in rows], sorted({row["patient_id"] for row in rows if row["patient_id"]})
    # With the items' values, so that their earlier lines can be understood.
    values = changes_to_nothing(connection, _AUDITED)
    host = {"host": name} if (name := host_of(connection)) else {}
    insert_copies(
        connection, audit_log, worklist_items, ids,
        {"item_id": "o.id", "patient_id": "o.patient_id", "changes": values},
        constants={"at": now, "actor": "command:purge", "action": "purged", **host},
    )  # fmt: skip
    delete_among(connection, source_entries, "patient_id", patients, item_id=ids)
    delete_among(connection, worklist_items, "id", ids)
    forget_differences(connection, patients, set(ids))
    if connection.scalar(select(_ENTRIES.id).where(NOT_LIVE, _ENTRIES.state == REFUSED).limit(1)) is None:
        return
    working = WorkingSet(connection, rules, actor="command:purge", now=now)
    for column in IDENTIFIERS:
        numbers = sorted({str(row[column]) for row in rows if row[column]})
        working.load(find_holding_patients(connection, column, numbers, (REFUSED,)))
    for row in rows:
        working.free(row)
    working.write()


_AUDITED = tuple(column.name for column in worklist_items.columns if column.name not in NOT_AUDITED)


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
