"""Where in JSON documents the records are: keys, lists within lists, messages in their place."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylantir.data_sources.base import BadRecord
from pylantir.data_sources.formats import json_stream
from pylantir.data_sources.formats.json_records import RecordsAt, read_records, survey
from pylantir.data_sources.formats.json_stream import Malformed


def records(document: object, path: str = "", *keys: str) -> list[Any]:
    text = io.StringIO(document if isinstance(document, str) else json.dumps(document))
    where = RecordsAt(path=tuple(path.split(".")) if path else (), key_fields=keys)
    return [record for _, record in read_records(text, where, survey(text, where).fields)]


VISITS = [{"day": "1"}, {"day": "2"}]


@pytest.mark.parametrize(
    ("document", "path", "keys", "expected"),
    [
        ({"P1": {"day": "1"}, "P2": {"day": "2"}}, "", ("id",), [{"day": "1", "id": "P1"}, {"day": "2", "id": "P2"}]),
        ({"P1": {"day": "1"}}, "*", ("id",), [{"day": "1", "id": "P1"}]),
        ({"P1": {"day": "1"}}, "*", (), [{"day": "1"}]),
        ({"data": {"P1": {"day": "1"}}}, "data", ("id",), [{"day": "1", "id": "P1"}]),
        ({"data": {"P1": {"day": "1"}}}, "data.*", ("id",), [{"day": "1", "id": "P1"}]),
        ({"P1": VISITS}, "*", ("id",), [{"day": "1", "id": "P1"}, {"day": "2", "id": "P1"}]),
        ({"P1": VISITS}, "", ("id",), [{"day": "1", "id": "P1"}, {"day": "2", "id": "P1"}]),
        ({"P1": VISITS}, "*.*", ("id",), [{"day": "1", "id": "P1"}, {"day": "2", "id": "P1"}]),
        ({"P1": {"visits": VISITS}}, "*.visits", ("id",), [{"day": "1", "id": "P1"}, {"day": "2", "id": "P1"}]),
        ({"P1": {"v1": {"day": "1"}}}, "*.*", ("id", "visit"), [{"day": "1", "id": "P1", "visit": "v1"}]),
        ({"P1": {"v1": {"day": "1"}}}, "*.*", ("visit",), [{"day": "1", "visit": "v1"}]),
        ({"P1": {"name": "x", "visits": {"v1": {}}}}, "*.visits", ("id", "v"), [{"name": "x", "id": "P1", "v": "v1"}]),
        ([{"id": "P1", "visits": VISITS}], "*.visits", (), [{"id": "P1", "day": "1"}, {"id": "P1", "day": "2"}]),
        ({"all": [{"id": "P1", "visits": VISITS}]}, "all.*.visits.*", (), [{"id": "P1", **one} for one in VISITS]),
        ({"all": [{"id": "P1", "visit": {"day": "1"}}]}, "all.*.visit", (), [{"id": "P1", "day": "1"}]),
        ([[{"day": "1"}], [{"day": "2"}]], "*", (), VISITS),
        ([{"id": "P1", "visits": []}, {"id": "P2", "visits": None}, {"id": "P3"}], "*.visits", (), []),
        ({"all": []}, "all.*.visits", (), []),
        ({}, "", ("id",), []),
    ],
)
def test_records_are_found_where_the_path_leads(
    document: object, path: str, keys: tuple[str, ...], expected: list[dict[str, str]]
) -> None:
    assert records(document, path, *keys) == expected


def test_plain_fields_of_the_objects_on_the_way_are_seen_wherever_they_stand() -> None:
    document = (
        '{"site": "9", "room": "A", "list": [1], "data": {"room": "B", "items": [{"id": "P1"}, {"id": "P2", "site": "8"}],'
        ' "late": 1}, "later": true, "null": null, "deep": {"x": 1}}'
    )
    around = {"room": "B", "late": 1, "later": True, "null": None}
    assert records(document, "data.items") == [{"site": "9", "id": "P1", **around}, {"id": "P2", "site": "8", **around}]


def test_a_record_keeps_its_own_field_even_if_that_is_empty() -> None:
    assert records({"id": "X", "items": [{"id": None}]}, "items") == [{"id": None}]


@pytest.mark.parametrize(
    ("document", "path", "keys", "told"),
    [
        ({"error": "busy"}, "items", (), 'there is no "items", but "error": it is an error message perhaps'),
        ([{"id": "P1", "bookings": []}, {"id": "P2", "bookings": []}], "*.visits", (), 'no element has "visits"'),
        ({"items": {"P1": {}}}, "items", (), 'set "key_field"'),
        ({"items": None}, "items", (), "expected ["),
        ({"items": "none"}, "items.*", (), "expected ["),
        ([{"id": 1}], "items", (), "is an array"),
        ('{"items": [], "x": 1', "items", (), "ends too early"),
        ('{"items": []} {}', "items", (), "end of the file"),
        ("{items: []}", "items", (), "name in quotes"),
    ],
)
def test_another_form_than_announced_is_never_taken_for_nothing(
    document: object, path: str, keys: tuple[str, ...], told: str
) -> None:
    with pytest.raises(Malformed) as caught:
        records(document, path, *keys)
    assert told in str(caught.value)


def test_a_scalar_in_place_of_a_record_is_given_as_it_is() -> None:
    assert records({"P1": "x", "P2": {"day": "1"}}, "*") == ["x", {"day": "1"}]


PLAIN = st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.text(max_size=3))


@given(
    subjects=st.dictionaries(
        st.text(min_size=1, max_size=3),
        st.lists(st.dictionaries(st.sampled_from("abc"), PLAIN), max_size=3),
        max_size=4,
    )
)
def test_by_key_or_by_list_the_same_records_are_found(subjects: dict[str, list[dict[str, Any]]]) -> None:
    expected = [{**visit, "id": subject} for subject, visits in subjects.items() for visit in visits]
    as_list = [{"id": subject, "visits": visits} for subject, visits in subjects.items()]
    assert records({"s": subjects}, "s.*", "id") == records(subjects, "*", "id") == expected
    assert records({"s": as_list}, "s.*.visits") == expected


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ('[{"id": "P1"}, {"id": "P2", "day": "1", "day": "2"}, {"id": "P3"}]', ""),
        ('[{"id": "P1"}, {"id": "P2", "deep": [{"a": 1, "a": 1}]}, {"id": "P3"}]', ""),
        ('{"all": [{"id": "P1"}, {"id": "P2", "id": "P9"}, {"id": "P3"}]}', "all"),
        ('{"id": "P1"}\n{"id": "P2", "id": "P9"}\n{"id": "P3"}\n', ""),
    ],
)
def test_a_record_with_a_name_twice_is_refused_by_itself(document: str, path: str) -> None:
    first, bad, last = records(document, path)
    assert (first, last) == ({"id": "P1"}, {"id": "P3"})
    assert isinstance(bad, BadRecord)
    assert bad.record in {"record 2", "line 2"}
    assert "stands twice in one object" in bad.reason


def test_a_name_twice_on_the_way_to_the_records_fails_the_document() -> None:
    with pytest.raises(Malformed, match='"all" stands twice'):
        records('{"all": [{"id": "P1"}], "all": [{"id": "P2"}]}', "all")


@pytest.mark.parametrize("place", ["before", "behind"])
@pytest.mark.parametrize("other", [["x" * 100] * 20_000, {str(number): "x" * 100 for number in range(20_000)}])
def test_what_stands_beside_the_records_may_be_larger_than_a_record(
    monkeypatch: pytest.MonkeyPatch, place: str, other: Any
) -> None:
    monkeypatch.setattr(json_stream, "LARGEST_RECORD_CHARS", 1 << 18)
    document = {"patients": other, "bookings": VISITS, "site": "B"}
    document = document if place == "before" else dict(reversed(document.items()))
    assert records(document, "bookings") == [{**visit, "site": "B"} for visit in VISITS]
