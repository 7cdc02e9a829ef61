"""What the records of one patient amount to, rule by rule."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pylantir.entry import CANCELED, COMPLETED, IN_PROGRESS, RECORD_FIELDS, SCHEDULED
from pylantir.store.decide.claims import Claim, Conflict, Item, ItemDecision, Rules, make_study_uid
from pylantir.store.decide.clusters.pairs import MAX_CANDIDATES
from pylantir.store.decide.reconcile import decide_group

RULES = Rules(ranks={"ris": 0, "redcap": 1, "csv": 2})
STATUS = "performed_procedure_step_status"


def claim(number: int, source: str, key: str = "", item: int | None = None, **fields: str) -> Claim:
    whole = {"patient_id": "P1", "scheduled_start_date": "20260701", "modality": "MR", **fields}
    return Claim(number, source, key or f"id:{number}", whole, item)


def item(number: int, *, touched: bool = False, **values: Any) -> Item:
    row: dict[str, Any] = dict.fromkeys((*RECORD_FIELDS, "former_study_uids"))
    row |= {
        "patient_id": "P1", "scheduled_start_date": "20260701", "scheduled_start_time": "000000", "modality": "MR",
        STATUS: COMPLETED if touched else SCHEDULED, "data_source": "ris", "scanner_touched": int(touched),
        "study_instance_uid": f"2.25.{number}", "generated_study_uid": f"2.25.{number}",
        "scheduled_procedure_step_id": str(number),
    }  # fmt: skip
    return Item(number, row | values)


def decide(*claims: Claim, items: tuple[Item, ...] = (), rules: Rules = RULES, **former: str) -> list[ItemDecision]:
    return decide_group(claims, items, {int(k[1:]): frozenset({v}) for k, v in former.items()}, rules).items


def groups(*claims: Claim, items: tuple[Item, ...] = (), rules: Rules = RULES) -> set[frozenset[int]]:
    return {frozenset(one.id for one in decision.claims) for decision in decide(*claims, items=items, rules=rules)}


def together(*claims: Claim, rules: Rules = RULES) -> bool:
    return len(decide(*claims, rules=rules)) == 1


def test_two_records_of_one_source_are_two_items() -> None:
    assert not together(claim(1, "ris"), claim(2, "ris"))
    assert not together(claim(1, "ris", accession_number="A1"), claim(2, "ris", accession_number="A1"))


def test_patient_date_and_modality_join_records_of_two_sources() -> None:
    assert together(claim(1, "ris"), claim(2, "csv"))
    assert not together(claim(1, "ris"), claim(2, "csv", scheduled_start_date="20260702"))
    assert not together(claim(1, "ris"), claim(2, "csv", modality="CT"))


def bare(number: int, source: str, **fields: str) -> Claim:
    """A record that gives no modality."""
    whole = {"patient_id": "P1", "scheduled_start_date": "20260701", **fields}
    return Claim(number, source, f"id:{number}", whole, None)


def test_a_record_without_modality_joins_the_only_candidate_whatever_its_modality() -> None:
    assert together(claim(1, "ris"), bare(2, "csv"))
    assert together(claim(1, "ris", modality="CT"), bare(2, "csv"))


def test_a_record_without_modality_stays_open_between_two() -> None:
    both = claim(1, "ris", modality="CT"), claim(3, "ris", modality="MR")
    assert len(decide(*both, bare(2, "csv"))) == 3


@pytest.mark.parametrize(
    "sign", [{"scheduled_station_aetitle": "MR1"}, {"protocol_name": "KNEE"}, {"scheduled_start_time": "100000"}]
)
def test_station_procedure_or_time_show_which_of_two_a_record_without_modality_is(sign: dict[str, str]) -> None:
    other = {"scheduled_station_aetitle": "CT1", "protocol_name": "HEAD", "scheduled_start_time": "080000"}
    own = {"scheduled_station_aetitle": "MR1", "protocol_name": "KNEE", "scheduled_start_time": "100000"}
    both = claim(1, "ris", modality="CT", **other), claim(3, "ris", modality="MR", **own)
    assert groups(*both, bare(2, "csv", **sign)) == {frozenset({1}), frozenset({2, 3})}


def test_a_record_stays_open_where_station_and_procedure_speak_for_different_exams() -> None:
    first = claim(1, "ris", modality="CT", scheduled_station_aetitle="CT1", protocol_name="KNEE")
    second = claim(3, "ris", modality="MR", scheduled_station_aetitle="MR1", protocol_name="HEAD")
    unclear = bare(2, "csv", scheduled_station_aetitle="MR1", protocol_name="KNEE")
    assert len(decide(first, second, unclear)) == 3


def test_another_source_uses_a_done_exams_accession_number_again_after_a_season() -> None:
    done = item(1, touched=True, accession_number="A1", exam_ended_on="20260701")
    own = claim(1, "ris", item=1, accession_number="A1")
    soon, late = (claim(2, "csv", accession_number="A1", scheduled_start_date=day) for day in ("20260929", "20260930"))
    assert groups(own, soon, items=(done,)) == {frozenset({1, 2})}
    assert groups(own, late, items=(done,)) == {frozenset({1}), frozenset({2})}


def test_two_people_under_one_number_of_one_source_are_told() -> None:
    john = {"patient_name": "Smith^John", "patient_sex": "M"}
    mary = {"patient_name": "Jones^Mary", "patient_sex": "F"}
    first, again, other = claim(1, "ris", **john), claim(2, "ris", **john), claim(3, "ris", **mary)
    (apart,) = decide_group([first, again, other], [], {}, RULES).apart
    assert (apart.first.claims, apart.second.claims) == ((first,), (other,))
    assert apart.fields == ("patient_name", "patient_sex")
    elsewhere = claim(3, "ris", issuer_of_patient_id="B", **mary)
    assert decide_group([claim(1, "ris", issuer_of_patient_id="A", **john), elsewhere], [], {}, RULES).apart == []
    assert decide_group([first, claim(3, "ris", scheduled_start_date="20260702", **mary)], [], {}, RULES).apart == []


def test_patients_of_two_issuers_are_not_told_to_be_kept_apart_whoever_names_no_issuer() -> None:
    jane, bob = {"patient_name": "Doe^Jane"}, {"patient_name": "Smith^Bob"}
    first, unnamed = claim(1, "ris", issuer_of_patient_id="A", **jane), claim(2, "redcap", **jane)
    decided = decide_group([first, unnamed, claim(3, "csv", issuer_of_patient_id="B", **bob)], [], {}, RULES)
    assert [one.claims for one in decided.items] == [
        (first, unnamed),
        (claim(3, "csv", issuer_of_patient_id="B", **bob),),
    ]
    assert decided.apart == []


def test_a_record_without_a_time_joins_the_only_candidate_whatever_the_bound() -> None:
    rules = Rules(ranks=RULES.ranks, max_minutes=60)
    assert together(claim(1, "ris", scheduled_start_time="080000"), claim(2, "redcap"), rules=rules)
    assert together(claim(1, "ris", scheduled_start_time="080000"), claim(2, "redcap", scheduled_start_time="000000"))


def test_a_record_without_a_time_comes_after_those_with_one() -> None:
    early, late = claim(1, "ris", scheduled_start_time="080000"), claim(2, "ris", scheduled_start_time="100000")
    timed, untimed = claim(3, "csv", scheduled_start_time="083000"), claim(4, "csv")
    assert groups(early, late, timed, untimed) == {frozenset({1, 3}), frozenset({2, 4})}


def test_a_record_without_a_time_joins_the_candidate_of_its_procedure_or_stays_open() -> None:
    head = claim(1, "ris", scheduled_start_time="080000", protocol_name="HEAD")
    knee = claim(2, "ris", scheduled_start_time="140000", protocol_name="KNEE")
    assert groups(head, knee, claim(3, "csv", procedure_description="knee")) == {frozenset({1}), frozenset({2, 3})}
    assert len(decide(head, knee, claim(3, "csv", protocol_name="SPINE"))) == 3
    assert len(decide(head, knee, claim(3, "csv"))) == 3


@pytest.mark.parametrize(
    ("two", "one", "lacks"),
    [
        (({"scheduled_start_time": "080000"}, {"scheduled_start_time": "140000"}), {}, "scheduled_start_time"),
        (({"modality": "MR"}, {"modality": "CT"}), {"modality": ""}, "modality"),
        (({"issuer_of_patient_id": "A"}, {"issuer_of_patient_id": "B"}), {}, "issuer_of_patient_id"),
    ],
)
def test_a_record_that_fits_two_exams_stays_open_and_is_told_with_what_it_lacks(
    two: tuple[dict[str, str], dict[str, str]], one: dict[str, str], lacks: str
) -> None:
    first, second, open_one = claim(1, "ris", **two[0]), claim(2, "redcap", **two[1]), claim(3, "csv", **one)
    decided = decide_group([first, second, open_one], [], {}, RULES)
    assert [(told.first.claims, told.second.claims, told.fields, told.unsaid) for told in decided.apart] == [
        ((first,), (open_one,), (lacks,), True),
        ((second,), (open_one,), (lacks,), True),
    ]
    assert decide_group([first, open_one], [], {}, RULES).apart == []


def test_a_number_says_whose_patient_a_record_without_an_issuer_is() -> None:
    ours = claim(1, "ris", issuer_of_patient_id="A", accession_number="A1")
    others = claim(2, "redcap", issuer_of_patient_id="B")
    assert groups(ours, others, claim(3, "csv", accession_number="A1")) == {frozenset({1, 3}), frozenset({2})}


def test_the_same_procedure_outweighs_a_nearer_start() -> None:
    head = claim(1, "ris", scheduled_start_time="080000", protocol_name="HEAD")
    knee = claim(2, "ris", scheduled_start_time="083000", protocol_name="KNEE")
    csv = claim(3, "csv", scheduled_start_time="081000", protocol_name="KNEE")
    assert groups(head, knee, csv) == {frozenset({1}), frozenset({2, 3})}


@pytest.mark.parametrize("name", ["study_instance_uid", "accession_number"])
def test_a_strong_key_joins_whatever_the_date_and_forbids_where_it_differs(name: str) -> None:
    first = claim(1, "ris", **{name: "1.2"})
    assert together(first, claim(2, "csv", scheduled_start_date="20260709", modality="CT", **{name: "1.2"}))
    assert not together(first, claim(2, "csv", **{name: "1.3"}))
    assert together(first, claim(2, "csv"))


def test_a_study_uid_outweighs_an_accession_number() -> None:
    first = claim(1, "ris", study_instance_uid="1.2", accession_number="A1")
    assert together(first, claim(2, "csv", study_instance_uid="1.2", accession_number="A2"))
    assert not together(first, claim(2, "csv", study_instance_uid="1.3", accession_number="A1"))


def test_steps_of_one_study_stay_apart_by_their_step_id() -> None:
    first = claim(1, "ris", accession_number="A1", scheduled_procedure_step_id="S1")
    second = claim(2, "ris", accession_number="A1", scheduled_procedure_step_id="S2")
    other = claim(3, "csv", accession_number="A1", scheduled_procedure_step_id="S2")
    assert groups(first, second, other) == {frozenset({1}), frozenset({2, 3})}


@pytest.mark.parametrize("strong", [{}, {"accession_number": "A1"}, {"study_instance_uid": "1.2"}])
def test_nothing_joins_two_birth_dates(strong: dict[str, str]) -> None:
    assert not together(
        claim(1, "ris", patient_birth_date="19800101", **strong),
        claim(2, "csv", patient_birth_date="19810101", **strong),
    )
    assert together(claim(1, "ris", patient_birth_date="19800101", **strong), claim(2, "csv", **strong))


def test_a_contradiction_with_any_member_keeps_a_record_out() -> None:
    bridge = claim(2, "redcap")
    ends = claim(1, "ris", patient_birth_date="19800101"), claim(3, "csv", patient_birth_date="19810101")
    assert groups(*ends, bridge) == {frozenset({1, 2}), frozenset({3})}


def test_the_nearest_start_times_find_each_other_one_to_one() -> None:
    morning, noon = claim(1, "ris", scheduled_start_time="080000"), claim(2, "ris", scheduled_start_time="120000")
    late, early = claim(3, "csv", scheduled_start_time="114500"), claim(4, "csv", scheduled_start_time="093000")
    assert groups(morning, noon, late, early) == {frozenset({1, 4}), frozenset({2, 3})}


def test_a_record_too_many_stays_alone() -> None:
    only = claim(1, "ris", scheduled_start_time="080000")
    near, far = claim(2, "csv", scheduled_start_time="081000"), claim(3, "csv", scheduled_start_time="100000")
    assert groups(only, near, far) == {frozenset({1, 2}), frozenset({3})}


def test_max_minutes_bounds_the_weak_rule_alone() -> None:
    rules = Rules(ranks=RULES.ranks, max_minutes=60)
    first = claim(1, "ris", scheduled_start_time="080000")
    assert together(first, claim(2, "csv", scheduled_start_time="090000"), rules=rules)
    assert not together(first, claim(2, "csv", scheduled_start_time="090001"), rules=rules)
    far = claim(1, "ris", scheduled_start_time="080000", accession_number="A1")
    assert together(far, claim(2, "csv", scheduled_start_time="200000", accession_number="A1"), rules=rules)


def test_match_on_replaces_the_weak_rule() -> None:
    rules = Rules(ranks=RULES.ranks, match_on=("patient_id", "protocol_name"))
    first = claim(1, "ris", protocol_name="BRAIN")
    other_day = claim(2, "csv", protocol_name="BRAIN", scheduled_start_date="20261224", modality="CT")
    assert together(first, other_day, rules=rules)
    assert not together(first, claim(2, "csv", protocol_name="KNEE"), rules=rules)
    assert not together(first, claim(2, "csv"), rules=rules)


def test_a_value_that_everybody_has_is_no_evidence() -> None:
    many = [claim(number, "ris") for number in range(MAX_CANDIDATES)]
    other = claim(999, "csv")
    assert len(decide(*many, other)) == MAX_CANDIDATES + 1


def test_per_field_the_first_source_that_has_a_value_wins() -> None:
    (decision,) = decide(
        claim(1, "csv", admission_id="1", protocol_name="csv", station_name="MR3"),
        claim(2, "ris", protocol_name="ris", source_record_id="2"),
        claim(3, "redcap", protocol_name="redcap", admission_id="2", source_record_id="3"),
    )
    wanted = {"protocol_name": "ris", "admission_id": "2", "station_name": "MR3", "data_source": "ris"}
    assert wanted.items() <= decision.values.items()
    assert decision.values["source_record_id"] == "2"
    assert decision.conflicts == (
        Conflict("admission_id", "redcap", "csv", "1"),
        Conflict("protocol_name", "ris", "csv", "csv"),
        Conflict("protocol_name", "ris", "redcap", "redcap"),
    )


def test_midnight_is_no_time_that_could_win_or_lose() -> None:
    at_night, at_eight = claim(1, "ris", scheduled_start_time="000000"), claim(2, "csv", scheduled_start_time="080000")
    for claims in ((at_night, at_eight), (replace(at_eight, data_source="ris"), replace(at_night, data_source="csv"))):
        (step,) = decide(*claims)
        assert (step.values["scheduled_start_time"], step.conflicts) == ("080000", ())
    (step,) = decide(at_night, replace(at_night, id=2, data_source="csv"))
    assert step.values["scheduled_start_time"] == "000000"
    (step,) = decide(replace(at_night, item_id=7), items=(item(7, touched=True, scheduled_start_time="080000"),))
    assert step.conflicts == ()


def test_further_attributes_are_merged_one_by_one() -> None:
    first = claim(1, "ris", dicom_attributes='{"PatientComments":["deaf"],"PatientSize":["1.8"]}')
    second = claim(2, "redcap", dicom_attributes='{"Occupation":["nurse"],"PatientSize":["1.9"]}')
    (decision,) = decide(second, first)
    expected = '{"Occupation":["nurse"],"PatientComments":["deaf"],"PatientSize":["1.8"]}'
    assert decision.values["dicom_attributes"] == expected
    assert decision.conflicts == (Conflict("dicom_attributes", "ris", "redcap", '{"PatientSize":["1.9"]}'),)


def test_what_nobody_gives_falls_back_and_overrules_nobody() -> None:
    (decision,) = decide(
        Claim(1, "ris", "id:1", {"patient_id": "P1", "scheduled_start_date": "20260701"}, None),
        claim(2, "csv", patient_name="Doe^Jane", scheduled_start_time="101500"),
    )
    wanted = {"patient_name": "Doe^Jane", "scheduled_start_time": "101500", "modality": "MR", STATUS: SCHEDULED}
    assert wanted.items() <= decision.values.items()
    assert "patient_weight_lb" not in decision.values
    assert decision.conflicts == ()


def test_a_source_without_configuration_comes_last() -> None:
    (decision,) = decide(claim(1, "ancient", protocol_name="old"), claim(2, "csv", protocol_name="new"))
    assert decision.values["protocol_name"] == "new"


def test_a_new_item_has_the_uid_of_its_first_record() -> None:
    (decision,) = decide(claim(1, "csv"), claim(2, "ris"))
    assert decision.values["study_instance_uid"] == make_study_uid("ris", "id:2", "P1")


def test_an_untouched_item_has_the_uid_that_is_supplied_now_else_its_own() -> None:
    given = claim(1, "ris", item=7, study_instance_uid="1.2.3")
    (decision,) = decide(given, items=(item(7),))
    assert decision.values["study_instance_uid"] == "1.2.3"
    assert decision.values["generated_study_uid"] == "2.25.7"
    (decision,) = decide(given, items=(item(7, study_instance_uid="1.2.99"),))
    assert decision.values["study_instance_uid"] == "1.2.3"
    assert decision.values["former_study_uids"] == '["1.2.99"]'
    (decision,) = decide(claim(1, "ris", item=7), items=(item(7, study_instance_uid="1.2.99"),))
    assert decision.values["study_instance_uid"] == "2.25.7"
    assert decision.values["former_study_uids"] == '["1.2.99"]'


def test_an_item_of_an_earlier_version_keeps_its_uid() -> None:
    old = item(7, study_instance_uid="1.2.99", generated_study_uid=None)
    (decision,) = decide(claim(1, "ris", item=7, study_instance_uid="1.2.3"), items=(old,))
    assert decision.values["study_instance_uid"] == "1.2.99"


def test_a_supplied_uid_comes_too_late_for_an_item_that_is_no_longer_scheduled() -> None:
    given = claim(1, "ris", item=7, study_instance_uid="1.2.3", performed_procedure_step_status=IN_PROGRESS)
    (decision,) = decide(given, items=(item(7, performed_procedure_step_status=IN_PROGRESS),))
    assert decision.values["study_instance_uid"] == "2.25.7"


def test_a_moved_record_takes_its_item_along_and_the_one_left_gets_a_uid_of_its_own() -> None:
    uid = make_study_uid("csv", "id:1", "P1")
    shared = item(7, study_instance_uid=uid, generated_study_uid=uid, data_source="ris")
    moved = claim(2, "ris", item=7, scheduled_start_date="20260705")
    stays = claim(1, "csv", "id:1", item=7)
    first, second = decide(stays, moved, items=(shared,))
    assert (first.item, first.claims) == (shared, (moved,))
    assert second.item is None
    assert second.values["study_instance_uid"] not in (None, uid)


def test_a_step_that_is_served_keeps_its_item_when_a_cancelled_record_returns_to_it() -> None:
    former = item(1, performed_procedure_step_status=CANCELED)
    served = item(2, data_source="csv")
    (decision,) = decide(claim(1, "ris", item=1), claim(2, "csv", item=2), items=(former, served))
    assert decision.item == served


def test_what_no_record_claims_is_cancelled_only_while_it_is_scheduled() -> None:
    statuses = (SCHEDULED, IN_PROGRESS, COMPLETED, CANCELED)
    items = [item(n, performed_procedure_step_status=status) for n, status in enumerate(statuses)]
    decided = decide_group([], [*items, item(9, touched=True)], {}, RULES)
    assert decided.cancelled == items[:1]


def test_a_source_without_configuration_does_not_keep_alive_what_a_configured_one_withdrew() -> None:
    mine = item(7)
    for former, alive in (("csv", False), ("ancient", True)):
        decided = decide_group([claim(1, "gone", item=7)], [mine], {7: frozenset({former})}, RULES)
        assert (len(decided.items), decided.cancelled) == ((1, []) if alive else (0, [mine]))


class TestTouchedItems:
    def test_keep_their_records_whatever_those_say_now(self) -> None:
        mine = item(7, touched=True)
        later = claim(1, "ris", item=7, scheduled_start_date="20270101", patient_birth_date="19991231")
        (decision,) = decide(later, items=(mine,))
        assert (decision.item, decision.claims, decision.values) == (mine, (later,), {})

    def test_tell_what_was_said_in_vain(self) -> None:
        mine = item(7, touched=True, protocol_name="BRAIN")
        (decision,) = decide(claim(1, "ris", item=7, protocol_name="KNEE", source_record_id="1"), items=(mine,))
        assert decision.conflicts == (Conflict("protocol_name", "scanner", "ris", "KNEE"),)

    def test_take_in_what_another_source_says_of_the_same_step(self) -> None:
        (decision,) = decide(claim(1, "ris", item=7), claim(2, "csv"), items=(item(7, touched=True),))
        assert [one.id for one in decision.claims] == [1, 2]

    def test_are_recognised_by_what_sources_gave_not_by_what_was_made_up(self) -> None:
        mine = item(7, touched=True, accession_number="A1")
        late = claim(2, "csv", accession_number="A1", study_instance_uid="1.2.3", scheduled_procedure_step_id="S1")
        assert len(decide(claim(1, "ris", item=7, accession_number="A1"), late, items=(mine,))) == 1

    def test_do_not_swallow_another_record_of_their_own_source(self) -> None:
        assert len(decide(claim(1, "ris", item=7), claim(2, "ris"), items=(item(7, touched=True),))) == 2
        # Not even when the record that they had has gone to another patient.
        assert len(decide(claim(2, "ris"), items=(item(7, touched=True),))) == 2

    def test_stay_apart_from_one_another(self) -> None:
        first, second = item(1, touched=True), item(2, touched=True, data_source="csv")
        decisions = decide(claim(1, "ris", item=1), claim(2, "csv", item=2), items=(first, second))
        assert [(one.item, [member.id for member in one.claims]) for one in decisions] == [(first, [1]), (second, [2])]

    def test_are_found_again_by_the_record_that_they_began_with(self) -> None:
        uid = make_study_uid("ris", "id:1", "P1")
        mine = item(7, touched=True, study_instance_uid=uid, generated_study_uid=uid)
        (decision,) = decide(claim(1, "ris", "id:1", item=99), items=(mine,))
        assert decision.item == mine
