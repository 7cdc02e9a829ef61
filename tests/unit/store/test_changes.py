"""What a transaction will write is collected in memory, where it can be looked at."""

from __future__ import annotations

import json

from pylantir.entry import CANCELED, RECORD_ID_FIELD, SCHEDULED
from pylantir.store.decide.claims import STATUS, Conflict, Item
from pylantir.store.intake.working.changes import AuditTrail, RowChanges

ITEM = Item(7, {"patient_id": "P", STATUS: SCHEDULED, RECORD_ID_FIELD: "r1", "data_source": "ris", "modality": "MR"})


def test_an_update_is_what_differs() -> None:
    rows = RowChanges()
    assert rows.update(ITEM, {"modality": "CT", "patient_id": "P"}, "now") == {"modality": ["MR", "CT"]}
    assert rows.updates == [(7, {"modality": "CT", "updated_at": "now"})]
    assert rows.releases == []


def test_an_update_without_a_difference_is_none() -> None:
    rows = RowChanges()
    assert rows.update(ITEM, {"modality": "MR"}, "now") == {}
    assert rows.updates == []


def test_an_item_that_changes_hands_lets_go_of_its_record_id_first() -> None:
    rows = RowChanges()
    rows.update(ITEM, {"data_source": "csv", RECORD_ID_FIELD: "r1"}, "now")
    assert rows.releases == [(7, {RECORD_ID_FIELD: None})]
    assert rows.updates == [(7, {"data_source": "csv", RECORD_ID_FIELD: "r1", "updated_at": "now"})]
    cancelled = RowChanges()
    cancelled.update(ITEM, {STATUS: CANCELED, RECORD_ID_FIELD: None}, "now")
    assert cancelled.updates == [(7, {STATUS: CANCELED, RECORD_ID_FIELD: None, "updated_at": "now"})]


def test_the_trail_names_actor_and_moment_and_leaves_out_what_follows_from_other_columns() -> None:
    trail = AuditTrail("source:ris", "now")
    trail.note("changed", 7, "P", {"modality": ["MR", "CT"], "updated_at": ["a", "b"]})
    assert [{**line, "changes": json.loads(str(line["changes"]))} for line in trail.lines] == [
        {"at": "now", "actor": "source:ris", "action": "changed", "item_id": 7, "patient_id": "P",
         "changes": {"modality": ["MR", "CT"]}},
    ]  # fmt: skip


def test_a_source_that_was_overruled_is_named() -> None:
    trail = AuditTrail("source:csv", "now")
    trail.note_conflict(ITEM, Conflict("modality", "ris", "csv", "CT"), "MR")
    assert json.loads(str(trail.lines[0]["changes"])) == {
        "modality": {"winner": "ris", "value": "MR", "loser": "csv", "lost": "CT"}
    }
