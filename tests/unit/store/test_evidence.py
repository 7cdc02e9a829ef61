"""What speaks for and against two descriptions being one step, sign by sign."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylantir.store.decide.claims import Claim, Item, Rules
from pylantir.store.decide.evidence import find_objections, fuller_birth_date, is_somebody_else
from pylantir.store.decide.names import is_name, names_are_compatible, names_exclude_each_other
from pylantir.store.decide.reconcile import GroupDecision, decide_group

RULES = Rules(ranks={"siteA": 0, "siteB": 1})


def booking(number: int, source: str, time: str = "080000", item: int | None = None, **fields: str) -> Claim:
    whole = {"patient_id": "100", "scheduled_start_date": "20300701", "scheduled_start_time": time, "modality": "MR"}
    return Claim(number, source, f"id:{number}", whole | fields, item)


def done(number: int, **values: Any) -> Item:
    uid = f"2.25.{number}"
    row = {
        "patient_id": "100", "scheduled_start_date": "20300701", "scheduled_start_time": "080000", "modality": "MR",
        "performed_procedure_step_status": "COMPLETED", "data_source": "siteA", "scanner_touched": 1,
        "study_instance_uid": uid, "generated_study_uid": uid, "scheduled_procedure_step_id": str(number),
    }  # fmt: skip
    return Item(number, row | values)


def decide(*claims: Claim, items: tuple[Item, ...] = (), rules: Rules = RULES) -> GroupDecision:
    return decide_group(claims, items, {}, rules)


@pytest.mark.parametrize(
    ("first", "second", "against"),
    [
        ({"patient_name": "Smith^John"}, {"patient_name": "Jones^Mary"}, {"patient_name"}),
        ({"patient_sex": "M"}, {"patient_sex": "F"}, {"patient_sex"}),
        ({"patient_birth_date": "19800517"}, {"patient_birth_date": "19800518"}, {"patient_birth_date"}),
        ({"patient_birth_date": "19800101"}, {"patient_birth_date": "19810101"}, {"patient_birth_date"}),
        (
            {"scheduled_station_aetitle": "MR1", "protocol_name": "HEAD"},
            {"scheduled_station_aetitle": "MR2", "protocol_name": "KNEE"},
            {"scheduled_station_aetitle", "protocol_name"},
        ),
    ],
)
def test_people_and_exams_that_differ_are_kept_apart_and_told(
    first: dict[str, str], second: dict[str, str], against: set[str]
) -> None:
    decided = decide(booking(1, "siteA", **first), booking(2, "siteB", **second))
    assert len(decided.items) == 2
    (apart,) = decided.apart
    assert set(apart.fields) == against
    assert {one.data_source for step in (apart.first, apart.second) for one in step.claims} == {"siteA", "siteB"}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"patient_name": "Smith^John"}, {"patient_name": "SMITH^JOHN^A"}),
        ({"patient_name": "Müller^Anna"}, {"patient_name": "Mueller, Anna"}),
        ({"patient_name": "Nuñez^José"}, {"patient_name": "Jose Nunez"}),
        ({"patient_name": "Smith^John"}, {"patient_name": "100"}),
        ({"patient_name": "Yamada^Taro"}, {"patient_name": "山田^太郎"}),
        ({"patient_name": "Smith^Jane"}, {"patient_name": "Jones^Jane"}),
        ({"patient_sex": "M"}, {"patient_sex": "O"}),
        ({"patient_birth_date": "19800517"}, {"patient_birth_date": "19800101"}),
        ({"patient_birth_date": "19800517"}, {}),
        ({"scheduled_station_aetitle": "MR1"}, {"scheduled_station_aetitle": "MR2"}),
        ({"protocol_name": "HEAD"}, {"protocol_name": "KNEE"}),
        ({"issuer_of_patient_id": "A"}, {}),
    ],
)
def test_what_may_be_one_is_one(first: dict[str, str], second: dict[str, str]) -> None:
    decided = decide(booking(1, "siteA", **first), booking(2, "siteB", **second))
    assert len(decided.items) == 1
    assert decided.apart == []


def test_two_issuers_are_two_patients_and_nothing_to_tell() -> None:
    same = {"accession_number": "A1", "patient_name": "Smith^John"}
    decided = decide(
        booking(1, "siteA", issuer_of_patient_id="A", **same), booking(2, "siteB", issuer_of_patient_id="B", **same)
    )
    assert len(decided.items) == 2
    assert decided.apart == []


def test_a_number_outweighs_a_changed_name_but_not_another_person() -> None:
    one = booking(1, "siteA", accession_number="A1", patient_name="Smith^Jane", patient_sex="F")
    married = booking(2, "siteB", accession_number="A1", patient_name="Miller", patient_sex="F")
    assert len(decide(one, married).items) == 1
    another = booking(2, "siteB", accession_number="A1", patient_name="Miller^Tom", patient_sex="M")
    decided = decide(one, another)
    assert len(decided.items) == 2
    assert set(decided.apart[0].fields) == {"patient_name", "patient_sex"}


def test_one_number_with_two_birth_dates_is_two_items_and_told() -> None:
    one = booking(1, "siteA", accession_number="A1", patient_birth_date="19800517")
    decided = decide(one, booking(2, "siteB", accession_number="A1", patient_birth_date="19800527"))
    assert [apart.fields for apart in decided.apart] == [("patient_birth_date",)]


def test_steps_with_numbers_of_their_own_are_nothing_to_tell() -> None:
    decided = decide(booking(1, "siteA", accession_number="A1"), booking(2, "siteB", accession_number="A2"))
    assert len(decided.items) == 2
    assert decided.apart == []
    one, other = ({"accession_number": "A1", "study_instance_uid": uid} for uid in ("1.2.1", "1.2.2"))
    order = [
        booking(1, "siteA", **one),
        booking(2, "siteA", **other),
        booking(3, "siteB", **one),
        booking(4, "siteB", **other),
    ]
    decided = decide(*order)
    assert len(decided.items) == 2
    assert decided.apart == []


def test_one_order_with_two_study_uids_is_two_items_and_told() -> None:
    one, other = ({"accession_number": "A1", "study_instance_uid": uid} for uid in ("1.2.1", "1.2.2"))
    decided = decide(booking(1, "siteA", **one), booking(2, "siteB", **other))
    assert [apart.fields for apart in decided.apart] == [("study_instance_uid",)]


@pytest.mark.parametrize(("time", "steps"), [("115900", 1), ("120000", 1), ("120100", 2)])
def test_four_hours_bound_what_is_one_untouched_step(time: str, steps: int) -> None:
    assert len(decide(booking(1, "siteA"), booking(2, "siteB", time)).items) == steps


@pytest.mark.parametrize(("time", "steps"), [("100000", 1), ("100100", 2)])
def test_two_hours_bound_what_is_one_step_with_a_done_one(time: str, steps: int) -> None:
    decided = decide(booking(1, "siteA", item=7), booking(2, "siteB", time), items=(done(7),))
    assert len(decided.items) == steps


def test_another_exam_of_the_day_is_not_swallowed_by_a_done_one() -> None:
    exam = done(7, scheduled_station_aetitle="MR1", protocol_name="HEAD")
    other = booking(2, "siteB", "093000", scheduled_station_aetitle="MR2", protocol_name="KNEE")
    decided = decide(booking(1, "siteA", item=7), other, items=(exam,))
    assert [one.item for one in decided.items] == [exam, None]


def test_a_stranger_with_the_number_is_not_swallowed_by_a_done_exam() -> None:
    exam = done(7, patient_name="Smith^John", patient_sex="M")
    mary = booking(2, "siteB", "083000", patient_name="Jones^Mary", patient_sex="F")
    decided = decide(booking(1, "siteA", item=7), mary, items=(exam,))
    assert [one.claims for one in decided.items if one.item is None] == [(mary,)]
    assert [set(one.fields) for one in decided.apart] == [{"patient_name", "patient_sex"}]


def test_the_fuller_birth_date_wins_and_is_no_difference() -> None:
    decided = decide(
        booking(1, "siteA", patient_birth_date="19800101"), booking(2, "siteB", patient_birth_date="19800517")
    )
    (step,) = decided.items
    assert step.values["patient_birth_date"] == "19800517"
    assert step.conflicts == ()


def test_a_sister_does_not_complete_the_identity() -> None:
    john = booking(1, "siteA", patient_name="Smith^John", accession_number="A1")
    mary = booking(
        2, "siteB", patient_name="Smith^Mary", patient_sex="F", patient_birth_date="19900101",
        patient_weight_lb="120", station_name="MR3", accession_number="A1",
    )  # fmt: skip
    (step,) = decide(john, mary).items
    assert (step.values["patient_name"], step.values["station_name"]) == ("Smith^John", "MR3")
    assert not step.values.keys() & {"patient_sex", "patient_birth_date", "patient_weight_lb"}
    assert [one.field for one in step.conflicts] == ["patient_name"]


def test_a_name_that_is_only_the_patient_id_is_completed() -> None:
    (step,) = decide(booking(1, "siteA", patient_name="100"), booking(2, "siteB", patient_name="Doe^Jane")).items
    assert step.values["patient_name"] == "Doe^Jane"


@pytest.mark.parametrize(
    ("first", "second", "exclude", "compatible"),
    [
        ("Smith^John", "Smith^John", False, True),
        ("Smith^John", "JOHN SMITH", False, True),
        ("Smith^John", "Smith^J.", False, True),
        ("Smith^J", "Jones^J", True, False),
        ("Smith^John", "Smith^Mary", False, False),
        ("O'Brien^Pat", "OBrien^Pat", False, True),
        ("Dr. Smith", "Dr. Jones", True, False),
        ("Meyer-Schulz^Eva", "Schulz^Eva", False, True),
        ("Иванов^Пётр", "Петров^Иван", True, False),
        ("Ivanov^Pyotr", "Иванов^Пётр", False, True),
        ("Yamada^Tarou=山田^太郎", "山田^太郎", False, True),
        ("Yamada^Tarou=山田^太郎", "佐藤^花子", True, False),
        ("Strauß^Eva", "Strauss^Eva", False, True),
        ("Kim^Baby A", "Kim^Baby B", False, False),
        ("Kim^Twin 1", "Kim^Twin 2", False, False),
        ("Kim^Twin 1", "Kim^Twin 01", False, True),
        ("Kim^Twin I", "Kim^Twin II", False, False),
        ("Kim^Baby A", "Kim^Baby", False, True),
        ("Kim^B/O Jane A", "Kim^B/O Jane B", False, False),
        ("Kim^Twin 1 of 2", "Kim^Twin 2 of 2", False, False),
        ("Kim^Jane=Kim^Jane", "Kim^Jane^Anna", False, True),
        ("Doe^Jane A.", "Doe^Jane Anna", False, True),
        ("Doe^J A", "Doe^Jane Anna", False, True),
        ("Doe^Jane A.", "Doe^Jane Berta", False, False),
        ("Doe^J", "Doe^Mary", False, False),
        ("van Dijk^Piet", "van den Berg^Jan", True, False),
        ("de la Cruz^Juan", "Fuente^Maria de la", True, False),
        ("Al-Masri^Omar", "Al Sayed^Huda", True, False),
        ("Smith^Baby Boy", "Jones^Baby Boy", True, False),
        ("van Dijk^Piet", "Dijk, P. van", False, True),
        ("van der Berg^Jan", "van^J", False, True),
        ("Du^Wei", "Du^W", False, True),
    ],
)
def test_names_are_compared_by_their_parts(first: str, second: str, exclude: bool, compatible: bool) -> None:
    assert names_exclude_each_other(first, second) == names_exclude_each_other(second, first) == exclude
    assert names_are_compatible(first, second) == names_are_compatible(second, first) == compatible


@pytest.mark.parametrize(("name", "expected"), [("Doe^Jane", True), ("P-1", False), ("p1", False), ("^^", False)])
def test_a_name_that_repeats_the_patient_id_is_none(name: str, expected: bool) -> None:
    assert is_name(name, "P1") == expected


@pytest.mark.parametrize(
    ("reported", "expected"),
    [
        ({}, False),
        ({"patient_name": "MUELLER^JOERG"}, False),
        ({"patient_name": "100"}, False),
        ({"patient_name": "山田^太郎"}, False),
        ({"patient_name": "Jones^Mary"}, True),
        ({"patient_name": "M?ller^J?rg", "patient_birth_date": "19700102"}, False),
        ({"patient_name": "Müller^Jörg", "patient_birth_date": "19700103"}, True),
        ({"patient_birth_date": "19700101"}, False),
        ({"patient_sex": "F"}, True),
        ({"patient_sex": "O"}, False),
    ],
)
def test_a_report_is_on_another_person_only_if_something_in_it_says_so(
    reported: dict[str, str], expected: bool
) -> None:
    item = {"patient_id": "100", "patient_name": "Müller^Jörg", "patient_birth_date": "19700102", "patient_sex": "M"}
    assert is_somebody_else(item, {"patient_id": "100", **reported}) == expected


WORDS = st.text(st.characters(categories=("L",)), min_size=1, max_size=6)


@given(st.lists(WORDS, min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_order_and_punctuation_of_a_name_do_not_matter(words: list[str], random: Any) -> None:
    shuffled = random.sample(words, len(words))
    assert not names_exclude_each_other("^".join(words), ", ".join(shuffled))
    assert names_are_compatible("^".join(words), " ".join(shuffled))


@given(st.dates(), st.dates())
def test_a_birth_date_agrees_with_itself_and_with_its_year(first: Any, second: Any) -> None:
    one, other = first.strftime("%Y%m%d"), second.strftime("%Y%m%d")
    assert fuller_birth_date(one, one[:4] + "0101") == one
    assert fuller_birth_date(one, other) == fuller_birth_date(other, one)


DESCRIPTIONS = st.fixed_dictionaries(
    {"patient_id": st.just("100")},
    optional={
        "patient_name": st.sampled_from(["Smith^John", "Jones^Mary", "100"]),
        "patient_sex": st.sampled_from(["M", "F", "O"]),
        "patient_birth_date": st.sampled_from(["19800101", "19800517", "19810203"]),
        "accession_number": st.sampled_from(["A1", "A2"]),
        "issuer_of_patient_id": st.sampled_from(["A", "B"]),
    },
)


@given(DESCRIPTIONS, DESCRIPTIONS, st.booleans())
def test_objections_are_mutual_and_nothing_objects_to_what_says_less(
    first: dict[str, str], second: dict[str, str], weak: bool
) -> None:
    assert find_objections(first, second, weak=weak) == find_objections(second, first, weak=weak)
    less = {name: value for name, value in first.items() if name != "patient_sex"}
    assert find_objections(first, less, weak=weak) == ()
