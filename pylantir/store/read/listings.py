"""Lists what the database keeps besides items: claims, quarantined records, the audit log.

Lives in the commands. In: a read connection and conditions; out: rows, streamed. Nothing here writes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

from sqlalchemy import Connection, Select, Table, func, select, union
from sqlalchemy.exc import SQLAlchemyError

from pylantir.entry import RECORD_FIELDS, SCHEDULED
from pylantir.errors import StoreError
from pylantir.store.decide.claims import STATUS
from pylantir.store.decide.identifiers import advise_on_obstacle
from pylantir.store.decide.records import LIVE
from pylantir.store.failures import describe_error
from pylantir.store.read.worklist import ROWS_PER_FETCH
from pylantir.store.schema.tables import (
    audit_log,
    cluster_hosts,
    rejected_entries,
    source_entries,
    source_states,
    source_warnings,
    sync_runs,
    worklist_items,
)

_MAX_IDS = 500


def find_claims(connection: Connection, item_ids: Iterable[int]) -> dict[int, list[dict[str, Any]]]:
    """Find the sources that give some items now.

    Returns:
        Item id -> its live claims, the oldest first: `data_source`, `record_key`, `first_seen_at` (ISO 8601, UTC).
        An item that nobody claims is missing.

    Raises:
        StoreError: The database cannot be read just now.
    """
    columns = source_entries.columns
    ids = list(item_ids)
    claims: dict[int, list[dict[str, Any]]] = {}
    for start in range(0, len(ids), _MAX_IDS):
        statement = (
            select(columns.item_id, columns.data_source, columns.record_key, columns.first_seen_at)
            .where(columns.item_id.in_(ids[start : start + _MAX_IDS]), columns.state == LIVE)
            .order_by(columns.first_seen_at, columns.id)
        )
        for row in stream(connection, statement):
            claims.setdefault(row.pop("item_id"), []).append(row)
    return claims


def find_statements(connection: Connection, item_id: int) -> list[dict[str, Any]]:
    """Find the values that each source gives for an item now.

    Returns:
        Its live records, the oldest first: `data_source`, `record_key`, and `fields`, field name -> value.

    Raises:
        StoreError: The database cannot be read just now.
    """
    columns = source_entries.columns
    statement = (
        select(columns.data_source, columns.record_key, *(columns[name] for name in RECORD_FIELDS))
        .where(columns.item_id == item_id, columns.state == LIVE)
        .order_by(columns.first_seen_at, columns.id)
    )
    return [
        {
            "data_source": row.pop("data_source"),
            "record_key": row.pop("record_key"),
            "fields": {name: value for name, value in row.items() if value},
        }
        for row in stream(connection, statement)
    ]


def find_rejected(connection: Connection, *, source: str | None = None) -> Iterator[dict[str, Any]]:
    """Yield the quarantined records by source, the latest first, with all columns but `id`.

    If another item is in the way, the reason says what to do about it as it is now.

    Raises:
        StoreError: The database cannot be read just now.
    """
    columns = rejected_entries.columns
    of_other = worklist_items.c[STATUS].label("other_status")
    statement = _all_but_id(rejected_entries, source).add_columns(of_other)
    statement = statement.outerjoin(worklist_items, worklist_items.c.id == columns.other_item)
    for row in stream(connection, statement.order_by(columns.data_source, columns.last_seen_at.desc(), columns.id)):
        status = row.pop("other_status")
        if row["other_source"] is not None:
            # Earlier versions stored the advice, too.
            cause = row["reason"].partition(";")[0]
            row["reason"] = f"{cause}; {advise_on_obstacle(status, row['field'], row['other_item'])}"
        yield row


def find_held(connection: Connection, source: str) -> Iterator[dict[str, Any]]:
    """Yield the records of a source that its fetches no longer show and that are held back, by day and patient.

    Raises:
        StoreError: The database cannot be read just now.
    """
    columns = source_entries.columns
    names = (
        "patient_id", "scheduled_start_date", "scheduled_start_time", "item_id", "record_key", "held_since",
        "held_times",
    )  # fmt: skip
    statement = select(*(columns[name] for name in names)).where(
        columns.data_source == source, columns.held_since.is_not(None)
    )
    return stream(connection, statement.order_by(columns.scheduled_start_date, columns.patient_id, columns.id))


def find_warnings(connection: Connection, *, source: str | None = None) -> Iterator[dict[str, Any]]:
    """Yield the warnings about left-out or changed values, by source and field, with all columns but `id`.

    Raises:
        StoreError: The database cannot be read just now.
    """
    columns = source_warnings.columns
    statement = _all_but_id(source_warnings, source)
    return stream(connection, statement.order_by(columns.data_source, columns.field, columns.reason))


def _all_but_id(table: Table, source: str | None) -> Select[Any]:
    """Select the columns of a table for people, of one source or of all."""
    statement = select(*(column for column in table.columns if column.name != "id"))
    return statement if source is None else statement.where(table.columns.data_source == source)


def find_left_behind(connection: Connection, enabled: Collection[str]) -> dict[str, object]:
    """Count the items that sources that are not enabled still give.

    Returns:
        Source -> number of scheduled items that only it gives; sources without a live record are left out.
    """
    entries, items, others = source_entries.c, worklist_items.c, source_entries.alias()
    known = connection.scalars(select(entries.data_source).distinct()).all()
    left: dict[str, object] = {}
    for source in sorted(set(known) - set(enabled)):
        live = (entries.data_source == source, entries.state == LIVE)
        if connection.scalar(select(entries.id).where(*live).limit(1)) is None:
            continue
        shared = select(others.c.id).where(
            others.c.item_id == items.id, others.c.state == LIVE, others.c.data_source != source
        )  # fmt: skip
        alone = (items.data_source == source, items[STATUS] == SCHEDULED, ~shared.exists())
        given = source_entries.join(worklist_items, items.id == entries.item_id)
        left[source] = connection.scalar(select(func.count()).select_from(given).where(*live, *alone))
    return left


def find_audited(
    connection: Connection,
    *,
    patient_id: str | None = None,
    source: str | None = None,
    item_id: int | None = None,
    since: str | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield the rows of the audit log that meet all given conditions, the oldest first.

    Args:
        connection: Open for reading.
        patient_id: Only rows about this patient's items.
        source: Only rows about changes by this source.
        item_id: Only rows about this item.
        since: Only rows from this time on (ISO 8601, UTC, microseconds).

    Raises:
        StoreError: The database cannot be read just now.
    """
    columns = audit_log.columns
    statement = select(audit_log)
    for column, value in (
        (columns.patient_id, patient_id),
        (columns.actor, None if source is None else f"source:{source}"),
        (columns.item_id, item_id),
    ):
        if value is not None:
            statement = statement.where(column == value)
    if since is not None:
        statement = statement.where(columns.at >= since)
    return stream(connection, statement.order_by(columns.id))


def find_sources(connection: Connection) -> set[str]:
    """Return the names of all sources that ever wrote to the database."""
    tables = (source_states, source_entries, rejected_entries, sync_runs)
    known = select(worklist_items.c.data_source).where(worklist_items.c.data_source.is_not(None))
    return {name for (name,) in connection.execute(union(known, *(select(table.c.data_source) for table in tables)))}


def find_hosts(connection: Connection) -> set[str]:
    """Return the names of all hosts that have run with the database and were not forgotten."""
    return set(connection.scalars(select(cluster_hosts.c.host)))


def stream(connection: Connection, statement: Select[Any]) -> Iterator[dict[str, Any]]:
    """Yield the rows of a statement.

    Raises:
        StoreError: The database cannot be read just now.
    """
    try:
        with connection.execute(statement, execution_options={"yield_per": ROWS_PER_FETCH}) as result:
            yield from map(dict, result.mappings())
    except SQLAlchemyError as error:
        raise StoreError(f"the database cannot be read: {describe_error(error)}") from None
