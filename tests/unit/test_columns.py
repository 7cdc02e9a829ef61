"""`field_mapping` in all its forms: what each step does, and in which order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pylantir.columns import LEFT_OUT, RecordMapping, field_formats, without_left_out
from pylantir.errors import SourceUnavailable


def apply(mapping: dict[str, Any], record: dict[str, Any], **source: Any) -> dict[str, Any]:
    return RecordMapping(mapping, **source).apply(record)


@pytest.mark.parametrize(
    ("mapping", "record", "expected"),
    [
        ({"id": "patient_id"}, {"id": 17}, {"patient_id": 17}),
        ({"id": ["patient_id", "source_record_id"]}, {"id": "P1"}, {"patient_id": "P1", "source_record_id": "P1"}),
        ({"a.b.0": "patient_id"}, {"a": {"b": ["P1"]}}, {"patient_id": "P1"}),
        ({"a.b": "patient_id"}, {"a.b": "P1", "a": {"b": "P2"}}, {"patient_id": "P1"}),
        ({"id": "patient_id"}, {}, {}),
        ({"patient_name": {"from": ["last", "first"]}}, {"last": "Doe", "first": "Jane"}, {"patient_name": "Doe^Jane"}),
        ({"patient_name": {"from": ["last", "first"]}}, {"last": "Doe", "first": "N/A"}, {"patient_name": "Doe"}),
        (
            {"procedure_description": {"from": ["part", "side"]}},
            {"part": "Knee", "side": "left"},
            {"procedure_description": "Knee left"},
        ),
        (
            {"patient_id": {"from": ["site", "number"], "join": "-"}},
            {"site": '="07"', "number": 12.0},
            {"patient_id": "07-12"},
        ),
        (
            {"dicom:ResponsiblePerson": {"from": ["l", "f"]}},
            {"l": "Doe", "f": "M"},
            {"dicom:ResponsiblePerson": "Doe^M"},
        ),
        ({"patient_id": {"from": "t", "extract": "[A-Z]+[0-9]+"}}, {"t": "scan AB12 (x)"}, {"patient_id": "AB12"}),
        ({"patient_id": {"from": "t", "extract": "^([A-Z]+)_"}}, {"t": "AB_x"}, {"patient_id": "AB"}),
        ({"patient_id": {"from": "t", "extract": "^([A-Z]+)_"}}, {"t": "x"}, {"patient_id": None}),
        (
            {"patient_id": {"source_field": "t", "_extract": {"pattern": "(A)(B)", "group": 2}}},
            {"t": "AB"},
            {"patient_id": "B"},
        ),
        (
            {"patient_id": {"source_field": "t", "_extract": {"pattern": "(A)(B)", "group": 0}}},
            {"t": "AB"},
            {"patient_id": "AB"},
        ),
        ({"patient_id": {"source_field": "t", "_extract": {"pattern": "(A)B"}}}, {"t": "AB"}, {"patient_id": "A"}),
        ({"patient_sex": {"from": "s", "values": {"w": "F"}}}, {"s": "w"}, {"patient_sex": "F"}),
        ({"patient_sex": {"from": "s", "values": {"w": "F"}}}, {"s": "m"}, {"patient_sex": "m"}),
        ({"patient_sex": {"from": "s", "values": {"1": "M", "2": "F", "*": None}}}, {"s": 2}, {"patient_sex": "F"}),
        ({"patient_sex": {"from": "s", "values": {"1": "M", "*": None}}}, {"s": "?"}, {"patient_sex": None}),
        ({"patient_sex": {"from": "s", "values": {"*": "O"}}}, {"s": ""}, {"patient_sex": None}),
        ({"patient_sex": {"from": "s", "empty": ["9"]}}, {"s": "9"}, {"patient_sex": None}),
        ({"modality": {"from": "active", "values": {"true": "MR"}}}, {"active": True}, {"modality": "MR"}),
    ],
)
def test_a_record_becomes_fields(mapping: dict[str, Any], record: dict[str, Any], expected: dict[str, Any]) -> None:
    assert apply(mapping, record) == expected


def test_the_steps_follow_one_another() -> None:
    mapping = {
        "patient_sex": {"from": ["a", "b"], "join": "/", "extract": "/(.)", "values": {"2": "F"}, "empty": ["x"]},
    }
    assert apply(mapping, {"a": '="1"', "b": '="2"'}) == {"patient_sex": "F"}
    assert apply(mapping, {"a": '="1"', "b": "x"}) == {"patient_sex": None}


def test_a_preview_can_show_what_a_record_itself_has() -> None:
    mapping = {
        "patient_sex": {"from": "sex", "values": {"w": "F"}},
        "patient_name": {"from": ["last", "first"]},
        "modality": {"from": "kind", "extract": "^[A-Z]+"},
        "id": "patient_id",
        "old id": "patient_id",
    }
    record = {"sex": "w", "last": "Doe", "first": "Jane", "kind": "MR head", "id": "P1"}
    shown = RecordMapping(mapping).source_values(record)
    assert shown == {"patient_sex": "w", "patient_name": "Doe + Jane", "modality": "MR head"}


def test_words_for_nothing_count_before_columns_are_joined() -> None:
    mapping = {"patient_name": {"from": ["last", "first"]}}
    assert apply(mapping, {"last": "Doe", "first": "NASK"}, empty_values=["NASK"]) == {"patient_name": "Doe"}
    assert apply(mapping, {"last": "", "first": "NASK"}, empty_values=["NASK"]) == {"patient_name": None}


def test_a_value_that_no_step_touches_keeps_its_type() -> None:
    value = object()
    assert apply({"patient_id": {"from": "x"}}, {"x": value})["patient_id"] is value


@pytest.mark.parametrize(
    ("where", "stays"),
    [
        ({"room": "MR1"}, True),
        ({"room": ["MR2", "MR1"]}, True),
        ({"room": ["MR2"]}, False),
        ({"room": {"not": ["MR2"]}}, True),
        ({"room": {"not": ["MR1"]}}, False),
        ({"room": "MR1", "state": {"not": ["cancelled"]}}, False),
        ({"number": 3}, True),
        ({"missing": ""}, True),
        ({"missing": {"not": [""]}}, False),
        ({"deep.state": "ok"}, True),
    ],
)
def test_where_lets_records_in_that_fit_every_condition(where: dict[str, Any], stays: bool) -> None:
    record = {"id": "P1", "room": " MR1 ", "state": "cancelled", "number": 3.0, "deep": {"state": "ok"}}
    mapping = RecordMapping({"id": "patient_id"}, where=where)
    assert (LEFT_OUT not in mapping.apply(record)) is stays
    assert set(where) < set(mapping.columns)
    assert not mapping.is_plain


def test_formats_are_known_by_their_field() -> None:
    mapping = {"a": "patient_id", "patient_birth_date": {"from": "b", "format": "%d.%m.%Y"},
               "scheduled_start": {"from": "c", "format": ["excel", "%d.%m.%Y"]}}  # fmt: skip
    assert field_formats(mapping) == {
        "patient_birth_date": ("%d.%m.%Y",), "scheduled_start": ("excel", "%d.%m.%Y"),
    }  # fmt: skip


def test_an_expression_looks_at_a_bounded_text() -> None:
    mapping = {"patient_id": {"from": "t", "extract": "P1$"}}
    assert apply(mapping, {"t": "x" * 5000 + "P1"}) == {"patient_id": None}


@pytest.mark.parametrize("form", [{}, {"extract": ".*"}, {"values": {"*": "x"}}])
def test_a_spreadsheets_error_in_one_column_is_not_hidden_by_the_others(form: dict[str, Any]) -> None:
    mapping = RecordMapping({"patient_id": {"from": ["site", "number"], "join": "-", **form}})
    assert mapping.apply({"site": "S1", "number": "#REF!"}) == {"patient_id": "#REF!"}


@pytest.mark.parametrize(
    "form",
    [{"from": ["last", "first"]}, {"from": "first", "extract": "P[0-9]+"}, {"from": "first", "values": {"x": "y"}}],
)
@pytest.mark.parametrize("value", [["P5", "P7"], {"id": "P5"}, ("P5",)])
def test_a_list_or_an_object_is_not_taken_for_its_text(form: dict[str, Any], value: object) -> None:
    entry = RecordMapping({"patient_id": form}).apply({"last": "Doe", "first": value})
    assert entry == {"patient_id": value}


def test_an_expression_that_never_ends_is_given_up_and_named() -> None:
    mapping = RecordMapping({"patient_id": {"from": "title", "extract": "(a+)+$"}})
    assert mapping.apply({"title": "aaa"}) == {"patient_id": "aaa"}
    with pytest.raises(SourceUnavailable, match='"extract" of patient_id was given up'):
        mapping.apply({"title": "a" * 60 + "b"})
    assert mapping.apply({"title": "aaa"}) == {"patient_id": "aaa"}


def test_a_snapshot_that_where_empties_as_its_column_is_gone_is_no_empty_snapshot() -> None:
    mapping = RecordMapping({"id": "patient_id"}, where={"state": ["booked"]})
    gone = [mapping.apply({"id": "1", "status": "booked"}), mapping.apply({"id": "2"})]
    with pytest.raises(SourceUnavailable, match='where: no record has the field "state"'):
        list(without_left_out(gone))
    other = mapping.apply({"id": "3", "state": "cancelled"})
    assert list(without_left_out([*gone, other])) == []
    assert list(without_left_out([])) == []


def test_a_condition_that_excludes_by_a_column_that_is_gone_fails_the_fetch_and_names_the_near_one() -> None:
    mapping = RecordMapping({"id": "patient_id"}, where={"state": {"not": ["cancelled"]}})
    gone = [mapping.apply({"id": str(number), "status": "cancelled"}) for number in range(3)]
    given: list[object] = []
    with pytest.raises(SourceUnavailable, match=r'where: no record has the field "state": did you mean "status"\?'):
        given.extend(without_left_out(gone))
    assert given == []


def test_a_record_without_an_optional_column_is_admitted_once_another_record_has_it() -> None:
    mapping = RecordMapping({"id": "patient_id"}, where={"state": {"not": ["cancelled"]}})
    records = [{"id": "1"}, {"id": "2", "state": "cancelled"}, {"id": "3", "state": "booked"}, {"id": "4"}]
    entries = list(without_left_out(map(mapping.apply, records)))
    assert [one["patient_id"] for one in entries if isinstance(one, dict)] == ["1", "3", "4"]
    # The column exists: a later fetch may consist of records without it.
    assert len(list(without_left_out([mapping.apply({"id": "5"})]))) == 1


def test_a_fetch_of_very_many_records_without_the_column_holds_back_only_so_many() -> None:
    mapping = RecordMapping({"id": "patient_id"}, where={"state": {"not": ["cancelled"]}})
    taken = 0

    def records() -> Iterator[dict[str, Any]]:
        nonlocal taken
        for taken in range(100_000):
            yield mapping.apply({"id": str(taken)})

    with pytest.raises(SourceUnavailable):
        list(without_left_out(records()))
    assert taken < 20_000
