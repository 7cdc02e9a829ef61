"""Deletes old items, on an operator's command or as configured, and old history as configured. Lives in the writer.

It deletes in portions, each in its own transaction, so that the writer can answer scanners' reports in between.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy import Column, Connection, Engine, RowMapping, Select, delete, func, select

from pylantir.entry import COMPLETED
from pylantir.settings import RetentionSettings
from pylantir.store.change.erasure import add_tombstones
from pylantir.store.clock import Clock, system_time, utc_now
from pylantir.store.decide.claims import STATUS, Rules
from pylantir.store.decide.evidence import ISSUER
from pylantir.store.decide.records import IDENTIFIERS, REFUSED, WITHDRAWN
from pylantir.store.intake.holders import find_holding_patients
from pylantir.store.intake.working.differences import forget_differences
from pylantir.store.intake.working_set import WorkingSet
from pylantir.store.schema.audit_guard import allow_deletion, forbid_changes
from pylantir.store.schema.bulk import CHUNK, chunks, delete_among, select_among
from pylantir.store.schema.done_exams import note_done_exams
from pylantir.store.schema.engine import transaction
from pylantir.store.schema.tables import (
    NOT_LIVE,
    access_log,
    audit_log,
    done_exams,
    mpps_instances,
    source_entries,
    sync_runs,
    worklist_items,
)

PORTION = 10 * CHUNK
_REMEMBERED = ("id", "patient_id", ISSUER, "study_instance_uid", "scheduled_start_date", "exam_ended_on")
_ITEMS = worklist_items.c
_ENTRIES = source_entries.c
_REPORTS = mpps_instances.c


def purge_items(
    engine: Engine,
    before: str,
    rules: Rules,
    *,
    actor: str = "command:purge",
    dry_run: bool = False,
    clock: Clock = system_time,
) -> Generator[None, None, str]:
    """Delete items that are scheduled before a day and that no source gives any more, with all that is known of them.

    Of each item a line of the audit log remains, which names nobody, and of a completed one that it was done. Reports
    whose items are all gone go, too. Records of other patients that were refused because of these items' numbers are
    admitted at once.

    Args:
        engine: The database.
        before: The day, YYYYMMDD.
        rules: Priorities and the matching rule.
        actor: Who deletes them, for the audit log.
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
                note = {"at": utc_now(clock), "actor": actor, "action": "purged"}
                _delete_items(connection, gone, rules, note, f"scheduled before {before}")
        if not end:
            if count and not dry_run:
                yield from _delete_reports_without_items(engine)
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
    columns = (*(_ITEMS[name] for name in (*_REMEMBERED, STATUS)), *(_ITEMS[name] for name in IDENTIFIERS))
    is_old = (_ITEMS.id.between(ids[0], ids[-1]), _ITEMS.scheduled_start_date < before)
    rows = connection.execute(select(*columns).where(*is_old).order_by(_ITEMS.id)).mappings().all()
    # Two statements: a database that joins the tables may read all of them each time.
    old = [row["id"] for row in rows]
    given = select_among(connection, source_entries, ("item_id",), "item_id", old, condition=f"state <> '{WITHDRAWN}'")
    claims = {number for (number,) in given}
    return [row for row in rows if row["id"] not in claims]


def _delete_items(
    connection: Connection, rows: Sequence[RowMapping], rules: Rules, note: dict[str, str], reason: str
) -> None:
    ids, patients = [row["id"] for row in rows], sorted({row["patient_id"] for row in rows if row["patient_id"]})
    allow_deletion(connection)
    delete_among(connection, audit_log, "item_id", ids)
    forbid_changes(connection)
    add_tombstones(connection, [(row["id"], row["patient_id"]) for row in rows], note, {"reason": reason})
    # Sources may have corrected the patient ID after the exam: it is remembered under both.
    named = {(row["id"], row["patient_id"]) for row in rows if row["patient_id"]}
    named |= set(select_among(connection, source_entries, ("item_id", "patient_id"), "item_id", ids, distinct=True))
    done = {row["id"]: row for row in rows if row[STATUS] == COMPLETED}
    exams = [{**done[number], "patient_id": patient} for number, patient in sorted(named) if number in done]
    note_done_exams(connection, exams, note["at"])
    delete_among(connection, source_entries, "item_id", ids)
    delete_among(connection, worklist_items, "id", ids)
    forget_differences(connection, patients, set(ids))
    if connection.scalar(select(_ENTRIES.id).where(NOT_LIVE, _ENTRIES.state == REFUSED).limit(1)) is None:
        return
    working = WorkingSet(connection, rules, actor=note["actor"], now=note["at"])
    for column in IDENTIFIERS:
        numbers = sorted({str(row[column]) for row in rows if row[column]})
        working.load(find_holding_patients(connection, column, numbers, (REFUSED,)))
    for row in rows:
        working.free(row)
    working.write()


def _delete_reports_without_items(engine: Engine) -> Iterator[None]:
    """Delete the scanners' reports about items of which none is left; one that never had an item stays."""
    last = ""
    while True:
        with engine.begin() as connection:
            page = _page_of_reports(connection, last, _REPORTS.item_ids)
            items = {uid: set(json.loads(about)) for uid, about in page}
            numbers = sorted(set().union(*items.values()))
            left = {number for (number,) in select_among(connection, worklist_items, ("id",), "id", numbers)}
            gone = [uid for uid, about in items.items() if about and about.isdisjoint(left)]
            if gone:
                delete_among(connection, mpps_instances, "sop_instance_uid", gone)
        if not page:
            return
        last = page[-1][0]
        yield


def _page_of_reports(connection: Connection, last: str, column: Column[str]) -> list[tuple[str, str]]:
    """Return the next reports in the order of their UIDs, with one column of each."""
    uid = _REPORTS.sop_instance_uid
    page = connection.execute(select(uid, column).where(uid > last).order_by(uid).limit(PORTION)).all()
    return [(str(number), str(value)) for number, value in page]


def prune_history(
    engine: Engine, rules: Rules, keep: RetentionSettings, *, clock: Clock = system_time
) -> Iterator[int]:
    """Delete what is older than configured: items, reports, and rows of the audit log, `sync_runs` and the access log.

    Args:
        engine: The database.
        rules: Priorities and the matching rule.
        keep: For how many days what is kept; each source's last run always stays.
        clock: Returns the time.

    Yields:
        The number of deleted rows, after each portion.
    """
    now = clock()
    if keep.items_days is not None:
        before = (now.astimezone() - timedelta(days=keep.items_days)).strftime("%Y%m%d")
        for _ in purge_items(engine, before, rules, actor="retention", clock=clock):
            yield 0
    if keep.mpps_days is not None:
        yield from _prune_reports(engine, _days_before(now, keep.mpps_days))
    while keep.audit_days is not None and (count := _prune_audit(engine, _days_before(now, keep.audit_days))):
        yield count
    while keep.audit_days is not None and (count := _prune_done_exams(engine, _days_before(now, keep.audit_days))):
        yield count
    while keep.runs_days is not None and (count := _prune_runs(engine, _days_before(now, keep.runs_days))):
        yield count
    while keep.access_days is not None and (count := _prune_access(engine, _days_before(now, keep.access_days))):
        yield count


def _prune_reports(engine: Engine, before: str) -> Iterator[int]:
    """Delete reports that did not change since; their items keep the status that they brought."""
    last = ""
    while True:
        with engine.begin() as connection:
            page = _page_of_reports(connection, last, _REPORTS.updated_at)
            gone = [uid for uid, at in page if at < before]
            if gone:
                delete_among(connection, mpps_instances, "sop_instance_uid", gone)
        if not page:
            return
        last = page[-1][0]
        yield len(gone)


def _prune_access(engine: Engine, before: str) -> int:
    """Delete a portion of the oldest rows; one that is still counted within its hour waits for the next day."""
    rows = access_log.c
    oldest = select(rows.id, rows.last_at).order_by(rows.id).limit(PORTION)
    with engine.begin() as connection:
        ids = [number for number, at in connection.execute(oldest).all() if at < before]
        for chunk in chunks(ids):
            connection.execute(delete(access_log).where(rows.id.in_(chunk)))
    return len(ids)


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


def _prune_done_exams(engine: Engine, before: str) -> int:
    """Delete a portion of what is remembered of done exams whose audit lines are deleted, too."""
    exams = done_exams.c
    with engine.begin() as connection:
        ids = connection.scalars(select(exams.item_id).where(exams.at < before).limit(PORTION)).all()
        for chunk in chunks(ids):
            connection.execute(delete(done_exams).where(exams.item_id.in_(chunk)))
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
