"""Reads who was shown what, and which studies those items are. Lives in the commands and in the writer."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, select, union

from pylantir.mpps.model import PATIENT_ID, STEP_SEQUENCE, STUDY_UID, items_of, text_of
from pylantir.store.read.listings import stream
from pylantir.store.read.mpps import find_instance
from pylantir.store.schema.tables import access_log, audit_log, worklist_items

MOST_STUDIES = 500
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


def find_studies(connection: Connection, item_ids: Sequence[int]) -> list[tuple[str | None, str | None]]:
    """Find study UID and patient ID of items; of very many, the first."""
    items = worklist_items.c
    statement = select(items.study_instance_uid, items.patient_id).where(items.id.in_(item_ids[:MOST_STUDIES]))
    return [(study_uid, patient_id) for study_uid, patient_id in connection.execute(statement)]


def find_studies_of_step(connection: Connection, sop_instance_uid: str) -> list[tuple[str | None, str | None]]:
    """Find the study UIDs, and the patient ID, of a performed procedure step as its scanner has reported it."""
    instance = find_instance(connection, sop_instance_uid)
    if instance is None:
        return []
    patient_id = text_of(instance.attributes, PATIENT_ID) or None
    steps = items_of(instance.attributes, STEP_SEQUENCE)
    uids = sorted({text_of(step, STUDY_UID) for step in steps} - {""})
    return [(uid, patient_id) for uid in uids] or [(None, patient_id)]
