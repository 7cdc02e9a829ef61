"""Makes of each decision about an item the row, the line in the audit log and the event. Lives in the writer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sqlalchemy import Connection

from pylantir.entry import CANCELED, RECORD_FIELDS, RECORD_ID_FIELD
from pylantir.store.decide.claims import STATUS, STUDY_UID, Item, ItemDecision
from pylantir.store.decide.differences import Difference
from pylantir.store.decide.records import Record
from pylantir.store.intake.records import relink_reports
from pylantir.store.intake.working.changes import NOT_AUDITED, AuditTrail, RowChanges

_NOTHING_GIVEN = dict.fromkeys(RECORD_FIELDS)
_GENERATED_IDS = ("scheduled_procedure_step_id", "requested_procedure_id")


@dataclass(slots=True)
class Events:
    """The changes of a transaction to items, for the log and the counts."""

    inserted: list[int] = field(default_factory=list)
    changed: list[int] = field(default_factory=list)
    cancelled: list[int] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)


class ItemChanges:
    """The changes of one transaction to items.

    Args:
        connection: In a transaction.
        records: The records in memory; those of a new item get its id.
        first_id: Returns the id of the first new item.
        trail: The transaction's lines in the audit log.
        now: The time.

    Attributes:
        rows: What will be written.
        events: What is to be logged and counted.
    """

    def __init__(
        self,
        connection: Connection,
        records: Mapping[int, Record],
        first_id: Callable[[], int],
        trail: AuditTrail,
        now: str,
    ) -> None:
        self.rows = RowChanges()
        self.events = Events()
        self._connection = connection
        self._records = records
        self._first_id = first_id
        self._added = 0
        self._trail = trail
        self._now = now

    def apply(self, decision: ItemDecision) -> int:
        """Apply the decision about an item; return the item's id."""
        item_id = decision.item.id if decision.item else self._first_id() + self._added
        for claim in decision.claims:
            if claim.item_id != item_id:
                record = self._records[claim.id]
                record.item_id = item_id
                record.changed = True
        values: dict[str, object] = dict(decision.values)
        if decision.item is None:
            self._added += 1
            if "exam_ended_on" in values:
                values["scanner_touched"] = 1
                relink_reports(self._connection, str(values["patient_id"]), str(values[STUDY_UID]), item_id)
            self._insert(item_id, self._with_ids(item_id, values))
        elif STATUS in values:
            self._update(decision.item, {**_NOTHING_GIVEN, **self._with_ids(item_id, values), "scanner_touched": 0})
        elif values:
            self._update(decision.item, values)
        return item_id

    def cancel(self, item: Item) -> None:
        """Cancel an item that nobody claims any more."""
        changes = self.rows.update(item, {STATUS: CANCELED, RECORD_ID_FIELD: None, "scanner_touched": 0}, self._now)
        self.events.cancelled.append(item.id)
        self._trail.note("cancelled", item.id, item.values["patient_id"], changes)

    def release_record_id(self, item: Item, patient: str) -> Item:
        """Take the record ID from an item whose record is about another patient now; return the item without it."""
        self.rows.release(item.id)
        self._trail.note("changed", item.id, patient, {RECORD_ID_FIELD: [item.values[RECORD_ID_FIELD], None]})
        return Item(item.id, {**item.values, RECORD_ID_FIELD: None})

    @staticmethod
    def _with_ids(item_id: int, values: Mapping[str, object]) -> dict[str, object]:
        return {**dict.fromkeys(_GENERATED_IDS, str(item_id)), **values}

    def _insert(self, item_id: int, values: dict[str, object]) -> None:
        self.rows.insert(item_id, values, self._now)
        self.events.inserted.append(item_id)
        # No values: the item has them, and later rows tell the changes. Writing them twice would double an item's cost.
        self._trail.note("created", item_id, values["patient_id"], {})

    def _update(self, item: Item, values: dict[str, object]) -> None:
        changes = self.rows.update(item, values, self._now)
        if not set(changes) - NOT_AUDITED:
            return
        if changes.get(STATUS, ("", ""))[0] == CANCELED:
            action, ids = "revived", self.events.inserted
        elif changes.get(STATUS, ("", ""))[1] == CANCELED:
            action, ids = "cancelled", self.events.cancelled
        else:
            action, ids = "changed", self.events.changed
        ids.append(item.id)
        self._trail.note(action, item.id, item.values["patient_id"], changes)
