"""The first start of a newer version with a database whose items an earlier version decided."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, delete, insert, update
from worklist_store import RULES, Feed, apply_rules, items, record

from pylantir.entry import CANCELED
from pylantir.store.change.rules import Applied
from pylantir.store.decide.claims import STATUS
from pylantir.store.read.conflicts import find_conflicts
from pylantir.store.schema.tables import conflicts, source_entries, store_facts, worklist_items

NOW = datetime(2030, 6, 30, 8, tzinfo=UTC)


def after(hours: float) -> Callable[[], datetime]:
    return lambda: NOW + timedelta(hours=hours)


def listed(store: Engine) -> list[tuple[str, str]]:
    return [(one["patient_id"], one["study_instance_uid"]) for one in items(store) if one[STATUS] != CANCELED]


def told(store: Engine) -> list[tuple[str, str, list[int]]]:
    with store.connect() as connection:
        return [(one["kind"], one["patient_id"], one["items"]) for one in find_conflicts(connection)]


@pytest.fixture
def of_earlier_rules(store: Engine) -> Engine:
    """Two items of one exam: earlier rules took the year alone for another birth date."""
    Feed(store, "ris").sync(record("r1", accession_number="A1", patient_birth_date="19800517"))
    Feed(store, "redcap").sync(record("d1", accession_number="A1", patient_birth_date="19790517"))
    with store.begin() as connection:
        this = source_entries.c.record_key == "id:d1"
        connection.execute(update(source_entries).where(this), {"patient_birth_date": "19800101"})
        connection.execute(delete(conflicts))
        connection.execute(
            insert(store_facts), {"name": "rules", "value": '[["ris", "redcap", "csv"], [], null, null]'}
        )
    return store


def test_an_exam_whose_uid_would_change_is_told_a_day_before(of_earlier_rules: Engine) -> None:
    store = of_earlier_rules
    before = listed(store)
    assert len(before) == 2
    assert apply_rules(store, RULES, clock=after(0)) == Applied(changed=0, held=1)
    assert (listed(store), told(store)) == (before, [("held", "P1", [2])])
    assert apply_rules(store, RULES, clock=after(1)) == Applied()
    assert (listed(store), told(store)) == (before, [("held", "P1", [2])])
    assert apply_rules(store, RULES, clock=after(25)).changed
    assert (listed(store), told(store)) == ([before[0]], [])


def test_a_change_of_its_source_does_not_wait(of_earlier_rules: Engine) -> None:
    apply_rules(of_earlier_rules, RULES, clock=after(0))
    changed = record("d1", accession_number="A1", patient_birth_date="1980", protocol_name="HEAD")
    Feed(of_earlier_rules, "redcap").sync(changed)
    assert (len(listed(of_earlier_rules)), told(of_earlier_rules)) == (1, [])


def test_a_uid_that_is_served_for_two_patients_does_not_wait(store: Engine) -> None:
    Feed(store, "ris").sync(record("r1", "P1", study_instance_uid="1.2.4"))
    Feed(store, "csv").sync(record("c1", "P2", study_instance_uid="1.2.3"))
    with store.begin() as connection:
        this = worklist_items.c.patient_id == "P1"
        connection.execute(update(worklist_items).where(this), {"study_instance_uid": "1.2.3"})
    assert apply_rules(store, RULES, clock=after(0)) == Applied(changed=1)
    assert sorted(listed(store)) == [("P1", "1.2.4"), ("P2", "1.2.3")]
