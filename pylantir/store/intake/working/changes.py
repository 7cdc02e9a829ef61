"""Collects what a transaction will write: rows of items and records, and lines of the audit log.

`RowChanges` and `AuditTrail` collect in memory, so tests can examine them without a database. A few statements write
them at the end.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from sqlalchemy import Connection

from pylantir.entry import RECORD_ID_FIELD
from pylantir.store.decide.claims import Conflict, Item
from pylantir.store.decide.records import Record
from pylantir.store.schema.audit_guard import add_lines
from pylantir.store.schema.bulk import insert_rows, update_rows
from pylantir.store.schema.tables import source_entries, worklist_items

encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
NOT_AUDITED = frozenset(
    {"id", "former_study_uids", "exam_ended_on", "updated_at", "created_at", "generated_study_uid", "scanner_touched"}
)
"""Columns of an item that follow from others or that no source gives."""


class AuditTrail:
    """The lines that a transaction adds to the audit log.

    Args:
        actor: Who makes the change: `source:NAME`, `scanner:AE` or `command:NAME`.
        now: The time.

    Attributes:
        lines: The rows for the table.
    """

    def __init__(self, actor: str, now: str) -> None:
        self.lines: list[dict[str, object]] = []
        self._actor = actor
        self._now = now

    def note(self, action: str, item_id: int, patient: object, changes: Mapping[str, object]) -> None:
        """Add a line, without the columns that follow from others.

        Args:
            action: What was done.
            item_id: The item.
            patient: The item's patient ID.
            changes: Field -> [from, to], or other details.
        """
        kept = {name: change for name, change in changes.items() if name not in NOT_AUDITED}
        self.lines.append(
            {
                "at": self._now,
                "actor": self._actor,
                "action": action,
                "item_id": item_id,
                "patient_id": patient,
                "changes": encode(kept),
            }
        )

    def note_conflict(self, item: Item, conflict: Conflict, value: object) -> None:
        """Add a line about a source that was overruled."""
        difference = {
            "winner": conflict.winner, "value": value, "loser": conflict.loser, "lost": conflict.lost_value,
        }  # fmt: skip
        self.note("conflict", item.id, item.values["patient_id"], {conflict.field: difference})


class RowChanges:
    """The rows that a transaction inserts and updates.

    Attributes:
        inserts: New items.
        updates: Item id -> column -> new value.
        releases: Items that give up their record ID before another one takes it.
    """

    def __init__(self) -> None:
        self.inserts: list[dict[str, object]] = []
        self.updates: list[tuple[int, dict[str, object]]] = []
        self.releases: list[tuple[int, dict[str, object]]] = []

    def insert(self, item_id: int, values: Mapping[str, object], now: str) -> None:
        """Add a new item."""
        self.inserts.append({"scanner_touched": 0, **values, "id": item_id, "created_at": now, "updated_at": now})

    def update(self, item: Item, values: Mapping[str, object], now: str) -> dict[str, list[object]]:
        """Give an item new values; return what differs: column -> [from, to]."""
        changes = {name: [item.values[name], value] for name, value in values.items() if item.values[name] != value}
        if not changes:
            return {}
        written = {name: values[name] for name in changes}
        if changes.keys() & {"data_source", RECORD_ID_FIELD} and item.values[RECORD_ID_FIELD] is not None:
            self.release(item.id)
            written[RECORD_ID_FIELD] = values.get(RECORD_ID_FIELD)
        self.updates.append((item.id, {**written, "updated_at": now}))
        return changes

    def release(self, item_id: int) -> None:
        """Clear an item's record ID first: in files of an earlier version (source, record ID) is unique."""
        self.releases.append((item_id, {RECORD_ID_FIELD: None}))

    def write(self, connection: Connection, records: Iterable[Record], trail: AuditTrail) -> None:
        """Write the item rows, the changed records and the audit lines."""
        changed = [record for record in records if record.changed]
        update_rows(connection, worklist_items, self.releases)
        update_rows(connection, worklist_items, self.updates)
        altered = ((record.id, record.changes()) for record in changed if record.stored)
        update_rows(connection, source_entries, [(number, values) for number, values in altered if values])
        insert_rows(connection, worklist_items, self.inserts)
        insert_rows(connection, source_entries, [record.row() for record in changed if not record.stored])
        add_lines(connection, trail.lines)
