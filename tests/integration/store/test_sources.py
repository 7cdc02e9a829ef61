"""Several sources, one worklist: who gives what, who takes over, who is refused."""

from __future__ import annotations

import json
from itertools import permutations

import pytest
from sqlalchemy import Engine
from worklist_store import (
    RULES,
    Feed,
    Record,
    apply_rules,
    check_audit,
    claims,
    items,
    quarantine,
    record,
    report_from_scanner,
    rows,
    runs,
    served,
)

from pylantir.entry import CANCELED, COMPLETED, SCHEDULED
from pylantir.store.change.commands import forget_source
from pylantir.store.decide.claims import STATUS, Rules
from pylantir.store.schema.tables import audit_log

FILLER = record("filler", patient="P0")
"""A second record, so that a source never loses all it has: the guard is another matter."""


def test_one_step_of_three_sources_is_one_item(store: Engine) -> None:
    for order in permutations(("ris", "redcap", "csv")):
        for name in order:
            Feed(store, name).sync(record(name, protocol_name=name), FILLER)
        (item,) = items(store, patient_id="P1")
        assert (item["data_source"], item["source_record_id"], item["protocol_name"]) == ("ris", "ris", "ris")
        assert len(claims(store)) == 6
    check_audit(store)


def test_a_field_comes_from_the_first_source_that_has_it(store: Engine) -> None:
    Feed(store, "csv").sync(record("1", patient_sex="F", protocol_name="KNEE"))
    Feed(store, "ris").sync(record("2", protocol_name="BRAIN"))
    (item,) = items(store)
    assert (item["patient_sex"], item["protocol_name"]) == ("F", "BRAIN")


def test_a_difference_is_audited_once_and_again_only_when_it_is_another_one(store: Engine) -> None:
    ris, csv = Feed(store, "ris"), Feed(store, "csv")
    for _ in range(3):
        ris.sync(record("1", protocol_name="BRAIN"))
        csv.sync(record("2", protocol_name="KNEE"))
    csv.sync(record("2", protocol_name="HIP"))
    told = [json.loads(line["changes"]) for line in rows(store, audit_log) if line["action"] == "conflict"]
    assert told == [
        {"protocol_name": {"winner": "ris", "value": "BRAIN", "loser": "csv", "lost": lost}} for lost in ("KNEE", "HIP")
    ]


def test_a_withdrawal_lets_the_next_source_take_over(store: Engine) -> None:
    ris, csv = Feed(store, "ris"), Feed(store, "csv")
    ris.sync(record("1", protocol_name="BRAIN"), FILLER)
    csv.sync(record("2", protocol_name="KNEE"))
    (before,) = items(store, patient_id="P1")
    ris.sync(FILLER)
    (after,) = items(store, patient_id="P1")
    assert (after["data_source"], after["protocol_name"], after[STATUS]) == ("csv", "KNEE", SCHEDULED)
    assert after["study_instance_uid"] == before["study_instance_uid"]
    assert runs(store)[-1]["cancelled"] == 0
    check_audit(store)


def test_two_entries_of_one_patient_on_one_day_in_one_source_stay_two(store: Engine) -> None:
    ris, csv = Feed(store, "ris"), Feed(store, "csv")
    ris.sync(record("1"), record("2", scheduled_start_time="150000"))
    csv.sync(record("3", scheduled_start_time="143000"))
    assert [(one["scheduled_start_time"], one["data_source"]) for one in items(store)] == [
        ("090000", "ris"), ("150000", "ris"),
    ]  # fmt: skip
    assert claims(store)["csv", "id:3"] == claims(store)["ris", "id:2"]


def test_a_study_uid_that_comes_later_replaces_the_one_before_while_the_item_is_scheduled(store: Engine) -> None:
    ris, csv = Feed(store, "ris"), Feed(store, "csv")
    csv.sync(record("1"), record("2", patient="P2"))
    first, second = items(store)
    report_from_scanner(store, second["id"], COMPLETED)
    ris.sync(record("1", study_instance_uid="1.2.1"), record("2", patient="P2", study_instance_uid="1.2.2"))
    ris.sync(record("1", study_instance_uid="1.2.7"), record("2", patient="P2", study_instance_uid="1.2.2"))
    after = items(store)
    assert [one["study_instance_uid"] for one in after] == ["1.2.7", second["study_instance_uid"]]
    assert [one["former_study_uids"] for one in after] == ['["1.2.1"]', None]
    assert after[0]["generated_study_uid"] == first["study_instance_uid"]
    check_audit(store)


def of_patient(patient: str, identifier: str) -> Record:
    return record(f"of-{patient}", patient=patient, **{identifier: "1.2.3"})


@pytest.mark.parametrize("identifier", ["accession_number", "study_instance_uid"])
@pytest.mark.parametrize("low_first", [True, False])
class TestAnIdentifierUnderTwoPatients:
    def deliver(self, store: Engine, identifier: str, low_first: bool) -> dict[str, Feed]:
        feeds = {"ris": Feed(store, "ris"), "csv": Feed(store, "csv")}
        for name in ("csv", "ris") if low_first else ("ris", "csv"):
            feeds[name].sync(of_patient("A" if name == "ris" else "B", identifier), FILLER)
        return feeds

    def test_stays_with_the_higher_priority_whoever_came_first(
        self, store: Engine, identifier: str, low_first: bool
    ) -> None:
        feeds = self.deliver(store, identifier, low_first)
        for _ in range(2):
            assert [one[0] for one in served(store)] == ["A", "P0"]
            assert quarantine(store)["csv", "id:of-B"]["field"] == identifier
            feeds["csv"].sync(of_patient("B", identifier), FILLER)
            feeds["ris"].sync(of_patient("A", identifier), FILLER)
        assert quarantine(store)["csv", "id:of-B"]["times_seen"] >= 3
        assert {run["rejected"] for run in runs(store) if run["data_source"] == "csv"} <= {0, 1}
        for run in runs(store):
            assert run["fetched"] == sum(run[name] for name in ("inserted", "updated", "unchanged", "rejected"))
        check_audit(store)

    def test_is_free_when_the_other_lets_go(self, store: Engine, identifier: str, low_first: bool) -> None:
        feeds = self.deliver(store, identifier, low_first)
        feeds["ris"].sync(FILLER)
        assert [one[0] for one in served(store)] == ["B", "P0"]
        assert quarantine(store) == {}
        feeds["ris"].sync(of_patient("A", identifier), FILLER)
        assert [one[0] for one in served(store)] == ["A", "P0"]
        check_audit(store)

    def test_is_free_when_the_other_is_mended(self, store: Engine, identifier: str, low_first: bool) -> None:
        feeds = self.deliver(store, identifier, low_first)
        feeds["ris"].sync(record("of-A", patient="A"), FILLER)
        assert [one[0] for one in served(store)] == ["A", "B", "P0"]
        assert quarantine(store) == {}

    def test_may_be_mended_by_the_one_refused(self, store: Engine, identifier: str, low_first: bool) -> None:
        feeds = self.deliver(store, identifier, low_first)
        feeds["csv"].sync(record("of-B", patient="B"), FILLER)
        assert [one[0] for one in served(store)] == ["A", "B", "P0"]
        assert quarantine(store) == {}

    def test_stays_with_an_item_that_a_scanner_has_started(
        self, store: Engine, identifier: str, low_first: bool
    ) -> None:
        csv, ris = Feed(store, "csv"), Feed(store, "ris")
        csv.sync(of_patient("B", identifier), FILLER)
        report_from_scanner(store, items(store, patient_id="B")[0]["id"], "IN_PROGRESS")
        ris.sync(of_patient("A", identifier), FILLER)
        if low_first:
            csv.sync(of_patient("B", identifier), FILLER)
        assert [one[0] for one in served(store)] == ["P0"]
        assert list(quarantine(store)) == [("ris", "id:of-A")]


def test_a_third_patient_does_not_loosen_a_refusal(store: Engine) -> None:
    Feed(store, "ris").sync(record("1", patient="A", accession_number="N1"))
    csv = Feed(store, "csv")
    csv.sync(*(record(patient, patient=patient, accession_number="N1") for patient in "BCD"))
    assert [one[0] for one in served(store)] == ["A"]
    assert sorted(quarantine(store)) == [("csv", "id:B"), ("csv", "id:C"), ("csv", "id:D")]


def test_two_records_of_one_source_with_one_accession_number_the_first_key_keeps_it(store: Engine) -> None:
    feed = Feed(store, "ris")
    both = [record("a", patient="A", accession_number="N1"), record("b", patient="B", accession_number="N1")]
    for records in (both, both[::-1]):
        feed.sync(*records)
        assert [one[0] for one in served(store)] == ["A"]


def test_a_changed_order_of_priority_decides_everything_anew(store: Engine) -> None:
    Feed(store, "ris").sync(record("1", protocol_name="BRAIN"), record("a", patient="A", accession_number="N1"))
    Feed(store, "csv").sync(record("2", protocol_name="KNEE"), record("b", patient="B", accession_number="N1"))
    apply_rules(store, RULES)
    before = items(store, patient_id="P1")
    assert [one[0] for one in served(store)] == ["A", "P1"]
    apply_rules(store, Rules(ranks={"csv": 0, "ris": 1}))
    (item,) = items(store, patient_id="P1")
    assert (item["protocol_name"], item["data_source"]) == ("KNEE", "csv")
    assert item["study_instance_uid"] == before[0]["study_instance_uid"]
    assert [one[0] for one in served(store)] == ["B", "P1"]
    check_audit(store)


def test_a_source_that_is_no_longer_configured_keeps_its_own_items_until_it_is_forgotten(store: Engine) -> None:
    csv = Feed(store, "csv")
    Feed(store, "gone").sync(record("1"), record("2", patient="P2"))
    csv.sync(record("3"), FILLER)
    csv.sync(FILLER)
    assert [one[0] for one in served(store)] == ["P0", "P2"]
    forget_source(store, "gone", RULES)
    assert [one[0] for one in served(store)] == ["P0"]
    check_audit(store)


def test_the_worklist_does_not_depend_on_the_order_of_arrival(store: Engine) -> None:
    shown = {
        "ris": [record("1", accession_number="N1"), record("2", patient="P2", patient_birth_date="19800101")],
        "redcap": [record("3"), record("4", patient="P2", patient_birth_date="19810101")],
        "csv": [
            record("5", patient="P3", accession_number="N1"),
            record("6", patient="P2", scheduled_start_time="093000"),
            record("7", scheduled_start_time="150000"),
        ],
    }
    pictures = set()
    feeds = {name: Feed(store, name) for name in shown}
    for order in permutations(shown):
        for name in order:
            feeds[name].sync(*shown[name])
        whole = [
            (one["patient_id"], one["scheduled_start_time"], one["data_source"], one["source_record_id"])
            for one in items(store)
            if one[STATUS] == SCHEDULED
        ]
        pictures.add((tuple(sorted(whole)), tuple(sorted(quarantine(store)))))
        for name in order:
            feeds[name].sync()
            feeds[name].ingest.accept_removal()
        assert {one[STATUS] for one in items(store)} == {CANCELED}
    assert len(pictures) == 1
    check_audit(store)


def test_an_item_that_goes_to_a_source_with_the_same_record_id_keeps_one(store: Engine) -> None:
    Feed(store, "csv").sync(record("1"))
    Feed(store, "ris").sync(record("1"))
    (item,) = items(store)
    assert (item["data_source"], item["source_record_id"]) == ("ris", "1")
    check_audit(store)
