"""MPPS: which worklist item a scanner means, and that an ambiguous sign links nothing."""

from __future__ import annotations

from typing import Any

import pytest

from pylantir.mpps.linking import Candidate, Clues, Link, Linked, Named, link_items, next_item_status, read_clues


def item(number: int, **values: Any) -> Candidate:
    common = {
        "study_uids": frozenset({f"1.{number}"}),
        "step_id": str(number),
        "accession_number": "",
        "patient_id": "P1",
        "modality": "MR",
        "day": "20260105",
        "status": "SCHEDULED",
    }
    return Candidate(id=number, **(common | values))  # type: ignore[arg-type]


def links(candidates: list[Candidate], *named: Named, **values: str) -> list[tuple[int, str]]:
    clues = {"patient_id": "P1", "modality": "MR", "day": "20260105"} | values
    found = link_items(Clues(steps=named or (Named(),), **clues), candidates).links
    return [(link.item_id, link.rule) for link in found]


def test_study_uid_and_step_id_find_one_step_of_a_study() -> None:
    study = [item(1, study_uids=frozenset({"1.9"})), item(2, study_uids=frozenset({"1.9"}))]
    assert links(study, Named(study_uid="1.9", step_id="2")) == [(2, "study UID")]
    both = links(study, Named(study_uid="1.9", step_id="2"), Named(study_uid="1.9", step_id="1"))
    assert both == [(2, "study UID"), (1, "study UID")]
    assert links(study, Named(study_uid="1.9"), patient_id="") == []


def test_the_generated_uid_still_finds_an_item_whose_source_supplied_another() -> None:
    assert links([item(1, study_uids=frozenset({"1.9", "2.25.1"}))], Named(study_uid="2.25.1")) == [(1, "study UID")]


def test_a_contradicting_step_id_never_links() -> None:
    candidates = [item(1, accession_number="A1")]
    assert links(candidates, Named(study_uid="1.1", step_id="7", accession_number="A1")) == []


@pytest.mark.parametrize("patient_id", ["P1", ""])
def test_accession_number_finds_what_the_scanner_did_not_take_from_the_worklist(patient_id: str) -> None:
    named = Named(study_uid="9.9.9", accession_number="A1")
    assert links([item(1, accession_number="A1")], named, patient_id=patient_id) == [(1, "accession number")]


def test_accession_number_under_another_patient_links_nothing() -> None:
    assert links([item(1, accession_number="A1", patient_id="P2")], Named(accession_number="A1")) == []


def test_accession_number_links_the_same_person_under_a_corrected_patient_id_and_says_so() -> None:
    jane = item(1, accession_number="A1", patient_id="P2", is_same_person=True)
    clues = Clues(steps=(Named(accession_number="A1"),), patient_id="P1", modality="MR", day="20260105")
    assert link_items(clues, [jane]).links == (Link(item_id=1, rule="accession number", other_patient=True),)
    another = item(2, accession_number="A1", patient_id="P3", is_same_person=True)
    assert link_items(clues, [jane, another]) == Linked(())


def test_a_study_uid_under_another_patient_links_and_says_so() -> None:
    clues = Clues(steps=(Named(study_uid="1.1"),), patient_id="P2", modality="MR", day="20260105")
    assert link_items(clues, [item(1)]).links == (Link(item_id=1, rule="study UID", other_patient=True),)


def test_a_patient_with_one_open_step_today_is_found() -> None:
    assert links([item(1)], Named(study_uid="9.9.9")) == [(1, "patient")]
    assert links([item(1)], modality="") == [(1, "patient")]


@pytest.mark.parametrize(
    "candidates",
    [
        [item(1), item(2)],
        [item(1, modality="CT")],
        [item(1, day="20260106")],
        [item(1, status="IN_PROGRESS")],
        [item(1, patient_id="P2")],
    ],
)
def test_a_patient_alone_is_not_enough_otherwise(candidates: list[Candidate]) -> None:
    assert links(candidates) == []


def test_another_accession_number_speaks_against_the_patient_s_step() -> None:
    assert links([item(1, accession_number="A1")], Named(accession_number="A2")) == []
    assert links([item(1)], Named(accession_number="A2")) == [(1, "patient")]


def test_a_patient_id_alone_does_not_find_another_person_s_step() -> None:
    """Two sites use the same numbers: an exam that nobody booked ends nobody else's."""
    stranger = item(1, is_somebody_else=True)
    named = Named(study_uid="9.9.9")
    clues = Clues(steps=(named,), patient_id="P1", modality="MR", day="20260105")
    assert link_items(clues, [stranger]) == Linked((), (), (1,))
    assert links([stranger, item(2)], named) == [(2, "patient")]


def test_of_two_people_with_one_number_the_accession_number_finds_the_one_that_the_scanner_describes() -> None:
    people = [item(1, accession_number="A1", is_somebody_else=True), item(2, accession_number="A1")]
    assert links(people, Named(accession_number="A1")) == [(2, "accession number")]
    assert links(people[:1], Named(accession_number="A1")) == [(1, "accession number")]


def test_a_study_uid_links_another_person_with_the_patient_id_and_says_so() -> None:
    clues = Clues(steps=(Named(study_uid="1.1"),), patient_id="P1", modality="MR", day="20260105")
    found = link_items(clues, [item(1, is_somebody_else=True)]).links
    assert found == (Link(item_id=1, rule="study UID", other_patient=True),)


@pytest.mark.parametrize(("patient_id", "linked"), [("P1", [1]), ("P2", [2]), ("P3", []), ("", [])])
def test_a_report_that_names_the_studies_of_two_patients_counts_for_its_own_only(
    patient_id: str, linked: list[int]
) -> None:
    clues = Clues(
        steps=(Named(study_uid="1.1"), Named(study_uid="1.2")), patient_id=patient_id, modality="MR", day="20260105"
    )
    found = link_items(clues, [item(1), item(2, patient_id="P2")])
    assert [link.item_id for link in found.links] == linked
    assert {*linked, *found.of_others} == {1, 2}


def test_a_cancelled_twin_does_not_make_a_study_ambiguous() -> None:
    twins = [item(1, study_uids=frozenset({"1.9"}), status="CANCELED"), item(2, study_uids=frozenset({"1.9"}))]
    assert links(twins, Named(study_uid="1.9")) == [(2, "study UID")]


def test_clues_are_read_from_the_attributes() -> None:
    step = {"0020000D": {"vr": "UI", "Value": ["1.2"]}, "00400009": {"vr": "SH", "Value": ["7 "]}}
    attributes: Any = {
        "00400270": {"vr": "SQ", "Value": [step, {"00080050": {"vr": "SH", "Value": ["A1"]}}]},
        "00100020": {"vr": "LO", "Value": ["P1"]},
        "00400244": {"vr": "DA", "Value": ["20260105"]},
    }
    clues = read_clues(attributes, "20300101")
    assert clues.steps == (Named(study_uid="1.2", step_id="7"), Named(accession_number="A1"))
    assert (clues.patient_id, clues.modality, clues.day) == ("P1", "", "20260105")
    assert read_clues({}, "20300101") == Clues(steps=(Named(),), patient_id="", modality="", day="20300101")


@pytest.mark.parametrize(
    ("said", "meant"),
    [("19700102", "19700102"), ("1970.01.02", "19700102"), ("1970-01-02", "19700102"), ("19700000", ""), ("1970", "")],
)
def test_a_date_that_cannot_be_read_contradicts_nothing(said: str, meant: str) -> None:
    reported = {tag: {"vr": "DA", "Value": [said]} for tag in ("00100030", "00400244")}
    clues = read_clues(reported, "20300101")
    assert (clues.birth_date, clues.day) == (meant, meant or "20300101")


@pytest.mark.parametrize(
    ("current", "reported", "expected"),
    [
        ("SCHEDULED", "IN PROGRESS", "IN_PROGRESS"),
        ("CANCELED", "IN PROGRESS", "IN_PROGRESS"),
        ("IN_PROGRESS", "COMPLETED", "COMPLETED"),
        ("IN_PROGRESS", "DISCONTINUED", "DISCONTINUED"),
        ("DISCONTINUED", "IN PROGRESS", "IN_PROGRESS"),
        ("COMPLETED", "IN PROGRESS", "COMPLETED"),
        ("COMPLETED", "DISCONTINUED", "COMPLETED"),
    ],
)
def test_an_item_never_comes_back_from_completed(current: str, reported: str, expected: str) -> None:
    assert next_item_status(current, reported) == expected


@pytest.mark.parametrize(
    ("attributes", "named"),
    [
        ({"0020000D": {"vr": "UI", "Value": ["1.2"]}}, Named(study_uid="1.2")),
        ({"00080050": {"vr": "SH", "Value": ["A1"]}}, Named(accession_number="A1")),
        ({"00400275": {"vr": "SQ", "Value": [{"0020000D": {"vr": "UI", "Value": ["1.2"]}}]}}, Named(study_uid="1.2")),
        (
            {"0020000D": {"vr": "UI", "Value": ["1.2"]}, "00400270": {"vr": "SQ", "Value": [{}]}},
            Named(study_uid="1.2"),
        ),
        (
            {
                "00080050": {"vr": "SH", "Value": ["A1"]},
                "00400275": {"vr": "SQ", "Value": [{"00080050": {"vr": "SH", "Value": ["A2"]}}]},
            },
            Named(),
        ),
    ],
)
def test_what_a_lean_device_says_outside_the_steps_counts(attributes: Any, named: Named) -> None:
    assert read_clues(attributes, "20300101").steps == (named,)


def test_a_patient_named_in_the_step_counts_unless_two_are() -> None:
    def steps(*patients: str) -> Any:
        return {"00400270": {"vr": "SQ", "Value": [{"00100020": {"vr": "LO", "Value": [one]}} for one in patients]}}

    assert read_clues(steps("P1"), "20300101").patient_id == "P1"
    assert read_clues(steps("P1", "P2"), "20300101").patient_id == ""


def test_a_report_for_one_issuers_patient_is_not_taken_for_anothers() -> None:
    here, there = item(1, issuer="A"), item(2, issuer="B")
    assert links([here], issuer="B") == []
    assert links([here, there], issuer="B") == [(2, "patient")]
    assert links([here, there]) == []
    assert links([item(3)], issuer="B") == [(3, "patient")]


def test_a_number_finds_its_item_whatever_issuer_the_scanner_names() -> None:
    ordered = item(1, issuer="A", accession_number="A1")
    assert links([ordered], Named(accession_number="A1"), issuer="SCANNER") == [(1, "accession number")]
    assert links([ordered], Named(study_uid="1.1"), issuer="SCANNER") == [(1, "study UID")]
