"""JSON files: arrays, objects around arrays, JSON Lines; broken, cut and very large ones."""

from __future__ import annotations

import io
import json
import os
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pylantir.data_sources.base import RECORD_LABEL, BadRecord
from pylantir.data_sources.formats import json_stream
from pylantir.data_sources.formats.json_records import RecordsAt, read_records, survey
from pylantir.data_sources.json_file import JsonPlugin
from pylantir.errors import SourceUnavailable

MAPPING = {"patient.id": "patient_id", "date": "scheduled_start_date"}
RECORDS = [{"patient": {"id": f"P{number}"}, "date": "2026-12-01", "tags": [{}]} for number in (1, 2)]
PATIENTS = [
    {"patient_id": "P1", "scheduled_start_date": "2026-12-01"},
    {"patient_id": "P2", "scheduled_start_date": "2026-12-01"},
]


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    then = time.time() - 60
    os.utime(path, (then, then))
    return path


def plugin_for(path: Path, **config: object) -> JsonPlugin:
    plugin = JsonPlugin()
    assert plugin.validate_config({"file_path": str(path), **config}) == (True, "")
    return plugin


def fetch(path: Path, mapping: dict[str, str] | None = None, **config: object) -> list[Any]:
    return list(plugin_for(path, **config).fetch_entries(MAPPING if mapping is None else mapping, 60))


def without_labels(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in entry.items() if name != RECORD_LABEL} for entry in entries]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "export.json"


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_an_array_of_objects_is_read(path: Path, indent: int | None, encoding: str) -> None:
    entries = fetch(write(path, json.dumps(RECORDS, indent=indent).encode(encoding)))
    assert without_labels(entries) == PATIENTS
    assert [entry[RECORD_LABEL] for entry in entries] == ["record 1", "record 2"]


def test_the_array_may_lie_within_objects(path: Path) -> None:
    document = {"meta": {"items": [1, {}]}, "data": {"count": 2, "items": RECORDS, "more": []}, "end": "x"}
    assert without_labels(fetch(write(path, json.dumps(document)), records_path="data.items")) == PATIENTS


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_json_lines_are_read_and_a_bad_line_costs_only_itself(path: Path, encoding: str) -> None:
    lines = [json.dumps(RECORDS[0]), "", "{broken", "[1]", json.dumps(RECORDS[1]), ""]
    first, broken, array, last = fetch(write(path, "\n".join(lines).encode(encoding)))
    assert without_labels([first, last]) == PATIENTS
    assert (broken.record, array.record, last[RECORD_LABEL]) == ("line 3", "line 4", "line 5")
    assert isinstance(broken, BadRecord)
    assert isinstance(array, BadRecord)


def test_an_element_that_is_no_object_is_reported_and_the_others_go_on(path: Path) -> None:
    document = json.dumps([RECORDS[0], "P9", 7, None, RECORDS[1]])
    first, *bad, last = fetch(write(path, document))
    assert without_labels([first, last]) == PATIENTS
    assert [record.record for record in bad] == ["record 2", "record 3", "record 4"]
    assert "P9" not in str(bad)


@pytest.mark.parametrize("document", ["[]", " [ ] \n"])
def test_an_empty_array_is_an_empty_picture(path: Path, document: str) -> None:
    assert fetch(write(path, document)) == []


def test_without_a_mapping_fields_are_named_like_worklist_fields(path: Path) -> None:
    document = json.dumps([{**PATIENTS[0], "room": 7}])
    assert without_labels(fetch(write(path, document), {})) == PATIENTS[:1]


@pytest.mark.parametrize(
    ("content", "config", "reason"),
    [
        ("", {}, "0 bytes"),
        ("  \n", {}, "expected an array"),
        ("7", {}, "expected an array"),
        (json.dumps(RECORDS)[:-1], {}, "ends too early"),
        (json.dumps(RECORDS)[:-9], {}, "character"),
        (json.dumps(RECORDS) + "]", {}, "end of the file"),
        ('[{"a": 1} {"a": 2}]', {}, "character 11: expected , or ]"),
        ("[" * 100_000, {}, "too many levels"),
        (json.dumps({"data": RECORDS}), {}, "records_path"),
        (json.dumps({"data": RECORDS}, indent=1), {}, "records_path"),
        (json.dumps({"data": RECORDS}), {"records_path": "items"}, 'there is no "items"'),
        (json.dumps({"data": {}}), {"records_path": "data"}, "expected ["),
        (json.dumps(RECORDS), {"records_path": "data"}, "is an array"),
        (json.dumps({"data": RECORDS})[:-1], {"records_path": "data"}, "ends too early"),
        ("\n".join(map(json.dumps, RECORDS))[:-5], {}, "line 2: the file ends too early"),
        (b'[{"name": "M\xfcller"}]', {}, "not utf-8"),
    ],
)
def test_a_file_that_cannot_be_read_whole_fails_the_fetch(
    path: Path, content: str | bytes, config: dict[str, Any], reason: str
) -> None:
    with pytest.raises(SourceUnavailable) as caught:
        fetch(write(path, content), **config)
    assert str(path) in str(caught.value)
    assert reason in str(caught.value)


@pytest.mark.parametrize("start", ['[{"a": "', '[{"a": 1}, ['])
def test_a_record_without_end_is_refused_before_it_fills_the_memory(path: Path, start: str) -> None:
    write(path, start + "1," * 5_000_000)
    with pytest.raises(SourceUnavailable, match="more than"):
        fetch(path, {"a": "patient_id"})


def test_a_large_array_is_never_in_memory_as_a_whole(path: Path) -> None:
    write(path, json.dumps(RECORDS * 20_000))
    tracemalloc.start()
    try:
        count = sum(1 for _ in plugin_for(path).fetch_entries(MAPPING, 60))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 40_000
    assert peak < path.stat().st_size / 4


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=400, deadline=None)
@given(
    elements=st.lists(JSON, max_size=5),
    block=st.integers(1, 20),
    ascii_only=st.booleans(),
    indent=st.sampled_from([None, 1]),
)
@example(elements=[0.5, False], block=1, ascii_only=True, indent=None)
def test_where_a_block_ends_makes_no_difference(
    elements: list[Any], block: int, ascii_only: bool, indent: int | None
) -> None:
    document = json.dumps({"x": elements, "data": elements}, ensure_ascii=ascii_only, indent=indent)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "BLOCK_CHARS", block)
        where = RecordsAt(path=("data",))
        text = io.StringIO(document)
        assert survey(text, where).fields == {}
        found = [record for _, record in read_records(text, where, {})]
    assert found == elements


def test_a_changed_file_asks_for_a_sync_only_if_it_is_watched(path: Path) -> None:
    write(path, json.dumps(RECORDS))
    watching, other = plugin_for(path, watch_for_changes=True), plugin_for(path)
    for plugin in (watching, other):
        list(plugin.fetch_entries(MAPPING, 60))
        assert not plugin.has_changed()
    write(path, json.dumps(RECORDS[:1]))
    assert watching.has_changed()
    assert not other.has_changed()


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({}, "file_path"),
        ({"file_path": 7}, "expected text"),
        ({"file_path": "x", "records_path": "data..items"}, "joined by dots"),
        ({"file_path": "x", "record_path": "data"}, 'did you mean "records_path"'),
    ],
)
def test_the_form_of_the_configuration_is_checked(config: dict[str, Any], reason: str) -> None:
    valid, message = JsonPlugin().validate_config(config)
    assert not valid
    assert reason in message


@pytest.mark.parametrize("said", [{"error": "database down"}, {"errors": [{"message": "x"}]}, {"Fault": {"code": 500}}])
def test_no_records_beside_an_error_are_a_failed_fetch(path: Path, said: dict[str, Any]) -> None:
    with pytest.raises(SourceUnavailable, match="has no record, but"):
        fetch(write(path, json.dumps({"items": [], **said})), records_path="items")


def test_no_records_beside_an_error_that_says_nothing_are_no_records(path: Path) -> None:
    assert fetch(write(path, json.dumps({"error": None, "errors": [], "items": []})), records_path="items") == []
