"""Which new record of a source is the booking of a missing one: sign by sign, and when it is another exam."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylantir.entry import COMPLETED, DISCONTINUED, IN_PROGRESS, SCHEDULED
from pylantir.store.decide.claims import STATUS, Item, Rules
from pylantir.store.decide.moves import find_begun, pair_moves
from pylantir.store.decide.records import LIVE, PENDING, Record

RULES = Rules()
TODAY = "20300701"


def made(number: int, key: str | None = None, *, state: str = LIVE, **said: str) -> Record:
    fields = {"patient_id": "P", "scheduled_start_date": TODAY, "modality": "MR", **said}
    return Record(number, "ris", key or f"id:{number}", state, number, "", "", None, None, 0, fields)


def test_two_that_vanished_and_one_that_arrived_are_no_move() -> None:
    gone = [made(1, "step:a"), made(2, "step:b")]
    assert pair_moves([made(3, "step:c", state=PENDING)], gone, {}, RULES) == []


NINE = {"scheduled_start_time": "090000"}
EXAM = {STATUS: COMPLETED, "scheduled_start_date": TODAY, "exam_ended_on": TODAY}


@pytest.mark.parametrize(("day", "same"), [("20300705", True), ("20300929", True), ("20300930", False)])
def test_the_accession_number_of_a_done_exam_is_another_exams_after_a_season(day: str, same: bool) -> None:
    gone = made(1, accession_number="A1")
    arrived = made(2, state=PENDING, accession_number="A1", scheduled_start_date=day)
    assert pair_moves([arrived], [gone], {1: EXAM}, RULES) == ([(gone, arrived)] if same else [])
    assert pair_moves([arrived], [gone], {}, RULES) == [(gone, arrived)]


@pytest.mark.parametrize(
    ("said", "moved"),
    [
        ({"scheduled_start_time": "110000"}, True),
        ({}, True),
        ({"scheduled_start_time": "120100"}, False),
        ({"scheduled_start_date": "20300702", "scheduled_start_time": "100000"}, False),
        ({"scheduled_station_aetitle": "MR2", "protocol_name": "KNEE"}, False),
    ],
)
def test_an_exam_that_has_begun_is_not_moved_to_the_patients_next_one(said: dict[str, str], moved: bool) -> None:
    at = {
        "scheduled_start_time": "100000",
        "scheduled_station_aetitle": "MR1",
        "protocol_name": "HEAD",
    }
    gone = made(1, "step:a", **at)
    arrived = made(2, "step:b", state=PENDING, **said)
    assert pair_moves([arrived], [gone], {1: EXAM}, RULES) == ([(gone, arrived)] if moved else [])
    assert pair_moves([arrived], [gone], {}, RULES) == [(gone, arrived)]
    undone = made(3, "step:c", **{**at, "scheduled_start_time": "160000"})
    assert pair_moves([arrived], [gone, undone], {1: EXAM}, RULES) == ([] if moved else [(undone, arrived)])


@pytest.mark.parametrize(
    ("begun", "now", "same"),
    [
        ({}, {}, True),
        ({"accession_number": "A1"}, {}, True),
        ({"accession_number": "A1", "protocol_name": "HEAD"}, {"accession_number": "A2"}, False),
        ({"protocol_name": "HEAD"}, {"protocol_name": "KNEE"}, False),
        ({"protocol_name": "HEAD"}, {"protocol_name": "HEAD"}, True),
        ({"accession_number": "A1", **NINE}, {"accession_number": "A2", **NINE}, True),
        ({"protocol_name": "HEAD", **NINE}, {"protocol_name": "KNEE", **NINE}, True),
        (
            {"accession_number": "A1", "protocol_name": "HEAD", **NINE},
            {"accession_number": "A2", "protocol_name": "KNEE", **NINE},
            False,
        ),
    ],
)
def test_the_next_booking_is_another_exam_where_too_little_says_that_it_is_the_one_begun(
    begun: dict[str, str], now: dict[str, str], same: bool
) -> None:
    gone, arrived = made(1, **begun), made(2, state=PENDING, **now)
    assert pair_moves([arrived], [gone], {1: EXAM}, RULES) == ([(gone, arrived)] if same else [])
    assert pair_moves([arrived], [gone], {}, RULES) == [(gone, arrived)]


def test_an_exam_has_begun_if_a_scanner_says_so() -> None:
    status = {1: SCHEDULED, 2: IN_PROGRESS, 3: COMPLETED, 4: DISCONTINUED, 5: COMPLETED}
    items = {
        number: Item(number, {STATUS: said, "scanner_touched": int(number < 5)}) for number, said in status.items()
    }
    assert find_begun([made(number) for number in range(1, 7)], items) == {2: items[2].values, 3: items[3].values}


SAID = st.fixed_dictionaries(
    {"patient_id": st.sampled_from("PQ"), "modality": st.sampled_from(["MR", "CT"])},
    optional={
        "scheduled_start_time": st.sampled_from(["090000", "100000"]), "accession_number": st.sampled_from("AB"),
        "patient_name": st.sampled_from(["Doe^Jane", "Roe^Mary"]),
    },
)  # fmt: skip
KEYS = st.sampled_from(["id", "step"])


@given(st.lists(st.tuples(KEYS, SAID), max_size=5), st.lists(st.tuples(KEYS, SAID), max_size=5))
def test_each_record_moves_once_at_most_whatever_the_order(former: Any, new: Any) -> None:
    gone = [made(number, f"{kind}:{number}", **said) for number, (kind, said) in enumerate(former)]
    come = [made(number, f"{kind}:{number}", state=PENDING, **said) for number, (kind, said) in enumerate(new, 10)]
    moves = [(left.id, arrived.id) for left, arrived in pair_moves(come, gone, {}, RULES)]
    assert len({left for left, _ in moves}) == len({arrived for _, arrived in moves}) == len(moves)
    assert {(left.id, arrived.id) for left, arrived in pair_moves(come[::-1], gone[::-1], {}, RULES)} == set(moves)
    patients = {one.id: one.patient_id for one in (*gone, *come)}
    assert all(patients[left] == patients[arrived] for left, arrived in moves)
