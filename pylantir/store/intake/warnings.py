"""Stores warnings about values that were left out or changed, counted per field and reason. Lives in the writer."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from sqlalchemy import Connection, and_, bindparam, delete, insert, or_, select

from pylantir.ipc.cycles import ValueWarning
from pylantir.store.intake.quarantine import storable
from pylantir.store.schema.tables import source_warnings

KEPT_DAYS = 30
"""How long a warning of an incremental source stays: such a source does not say when its record is corrected."""

_TABLE = source_warnings.c


def save_warnings(
    connection: Connection, source: str, warnings: Sequence[ValueWarning], now: str, *, snapshot: bool
) -> None:
    """Store a cycle's warnings; those of a complete snapshot replace the earlier ones.

    Args:
        connection: In the transaction of the cycle's end.
        source: The source's name.
        warnings: A field and a reason each, none twice.
        now: ISO 8601, UTC.
        snapshot: The cycle has shown all records.
    """
    rows = {(storable(one.field), storable(one.reason)): one.count for one in warnings}
    # To ask costs SQLite less than the statement, but a PostgreSQL server's client a round trip.
    is_far = connection.dialect.name == "postgresql"
    if not rows and not is_far and connection.scalar(_FIND_ANY, {"source": source}) is None:
        return
    gone = _TABLE.data_source == source
    if not snapshot:
        long_ago = datetime.datetime.fromisoformat(now) - datetime.timedelta(days=KEPT_DAYS)
        same = [and_(_TABLE.field == name, _TABLE.reason == reason) for name, reason in rows]
        gone &= or_(_TABLE.last_seen_at < long_ago.isoformat(timespec="microseconds"), *same)
    connection.execute(delete(source_warnings).where(gone))
    if rows:
        values = [
            {"data_source": source, "field": name, "reason": reason, "count": count, "last_seen_at": now}
            for (name, reason), count in rows.items()
        ]
        connection.execute(insert(source_warnings).inline(), values)


_FIND_ANY = select(_TABLE.id).where(_TABLE.data_source == bindparam("source")).limit(1)
