"""Reads who was shown what, from the table `access_log`. Lives in the commands."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, select, union

from pylantir.store.read.listings import stream
from pylantir.store.schema.tables import access_log, audit_log, worklist_items

_LOG = access_log.c


def find_accesses(
    connection: Connection,
    *,
    patient_id: str | None = None,
    peer: str | None = None,
    since: str | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield the rows that meet all given conditions, the oldest first; `item_ids` as a list.

    Args:
        connection: Open for reading.
        patient_id: Only answers that showed an item of this patient.
        peer: Only answers to this AE title or user.
        since: Only answers that were given at this time or later (ISO 8601, UTC, microseconds).

    Raises:
        StoreError: The database cannot be read just now.
    """
    statement = select(access_log).order_by(_LOG.id)
    if peer is not None:
        statement = statement.where(_LOG.peer == peer)
    if since is not None:
        statement = statement.where(_LOG.last_at >= since)
    wanted: set[int] | None = None
    if patient_id is not None:
        # The audit log still knows items that were deleted for their age.
        of_patient = union(
            select(worklist_items.c.id).where(worklist_items.c.patient_id == patient_id),
            select(audit_log.c.item_id).where(audit_log.c.patient_id == patient_id, audit_log.c.item_id.is_not(None)),
        )
        wanted = set(connection.scalars(of_patient))
        if not wanted:
            return
    for row in stream(connection, statement):
        item_ids = json.loads(row["item_ids"])
        if wanted is None or not wanted.isdisjoint(item_ids):
            yield {**row, "item_ids": item_ids}
