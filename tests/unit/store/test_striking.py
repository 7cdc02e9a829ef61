"""A patient's values are found in stored texts in whichever form they stand there, and struck out."""

from __future__ import annotations

import json

import pytest

from pylantir.store.change.striking import mentions, stored_forms, strike_all, strike_json


@pytest.mark.parametrize(
    ("text", "is_meant"),
    [
        ("PAT-4711", True),
        ("seen: pat-4711, at 10:00", True),
        ("XPAT-47112", False),
        ("PAT-47110", False),
        (json.dumps({"patient": "PAT-4711"}), True),
        (json.dumps({"PAT-4711": 1}), True),
        (json.dumps(["other"]), False),
        ("{no JSON, PAT-4711", True),
        (None, False),
    ],
)
def test_a_value_counts_where_it_is_no_part_of_a_longer_one(text: str | None, is_meant: bool) -> None:
    assert mentions("PAT-4711", text) is is_meant


def test_a_short_value_counts_only_where_it_is_the_whole_text() -> None:
    assert mentions("7", "7")
    assert not mentions("7", "room 7")


def test_a_value_beyond_ascii_is_looked_for_in_each_form_that_json_has() -> None:
    for ensure_ascii in (True, False):
        stored = json.dumps({"name": "Jürgen"}, ensure_ascii=ensure_ascii)
        assert any(form in stored for form in stored_forms("Jürgen"))
        assert mentions("Jürgen", stored)


def test_the_longest_value_goes_first_and_numbers_stay() -> None:
    assert strike_all({"Lovelace^Ada", "Lovelace"}, "Lovelace^Ada, Lovelace") == "[erased], [erased]"
    told = {"name": ["Lovelace^Ada", None], "count": 4711, "by": {"actor": "Lovelace^Ada"}}
    struck = {"name": ["[erased]", None], "count": 4711, "by": {"actor": "[erased]"}}
    assert strike_json(told, {"Lovelace^Ada"}) == struck
