"""What is said and decided about a number that records of several patients claim."""

from __future__ import annotations

import pytest

from pylantir.entry import CANCELED, COMPLETED, DISCONTINUED, IN_PROGRESS, SCHEDULED
from pylantir.store.decide.claims import STATUS, Item
from pylantir.store.decide.identifiers import advise_on_obstacle, find_given_up
from pylantir.store.decide.records import LIVE, REFUSED, WITHDRAWN, Record


def record(item_id: int, state: str = LIVE) -> Record:
    return Record(item_id, "ris", "id:r", state, item_id, "", "", None, None, 0, {"patient_id": "P"})


def item(number: int, status: str) -> Item:
    return Item(number, {"scanner_touched": 1, STATUS: status})


def test_an_exam_broken_off_that_nobody_gives_keeps_no_number() -> None:
    items = [item(1, DISCONTINUED), item(2, DISCONTINUED), item(3, COMPLETED), item(4, DISCONTINUED)]
    records = [record(1), record(2, WITHDRAWN), record(3, WITHDRAWN), record(4, REFUSED)]
    assert find_given_up(items, records) == {2, 4}


@pytest.mark.parametrize("status", [None, SCHEDULED, CANCELED])
def test_an_open_exam_can_be_corrected_in_either_record(status: str | None) -> None:
    assert advise_on_obstacle(status, "accession_number", 7) == "correct it in one of the two records"


@pytest.mark.parametrize(("status", "word"), [(IN_PROGRESS, "begun"), (DISCONTINUED, "begun"), (COMPLETED, "done")])
def test_the_number_of_an_exam_at_a_scanner_can_be_corrected_in_the_waiting_record_only(status: str, word: str) -> None:
    advice = advise_on_obstacle(status, "study_instance_uid", 7)
    assert f"has {word} that exam, so correct it in this record" in advice
    assert "`pylantir set-status 7 CANCELED --reason TEXT`" in advice
    assert "90 days" not in advice


def test_the_accession_number_of_a_done_exam_is_free_again_after_a_season() -> None:
    assert "free 90 days after the exam" in advise_on_obstacle(COMPLETED, "accession_number", 7)
    assert "90 days" not in advise_on_obstacle(IN_PROGRESS, "accession_number", 7)
