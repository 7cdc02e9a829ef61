"""A configuration file is read as JSON, or refused with the place of the mistake."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pylantir.config.document import read_document
from pylantir.config.loading import load_settings
from pylantir.errors import ConfigurationError
from pylantir.settings import Catalogue

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)
SECTIONS = ["dicom", "log", "db_url", "data_sources", "plugin_dirs", "deduplication", "allowed_aet"]
# A busy machine is no failure, and a few examples of each shape are enough.
brief = settings(deadline=None, max_examples=60)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{\n  "a": 1,\n  b: 2}', "pylantir.json: line 3, column 3: "),
        ('{"a": [1,]}', "comma"),
        ("[]", "pylantir.json: expected an object"),
        ("", "pylantir.json: line 1, column 1: Expecting value; the file is empty"),
        ('{"a": [1,\n', "line 2, column 1: Expecting value; the file ends here"),
        ("{“a”: 1}", 'only the straight quote "'),
        ("{'a': 1}", 'only the straight quote "'),
        ('{"a": 1, // the first\n"b": 2}', "JSON has no comments"),
        ('{"a": True}', "write true, false or null"),
        ('{"file_path": "C:\\data\\new.csv"}', "write each backslash of a text twice"),
        ('{"a": NaN}', "NaN is not a JSON number"),
        ("[" * 100_000, "not usable as JSON"),
        ('{"a":' * 700 + "1" + "}" * 700, "not usable as JSON"),
    ],
)
def test_what_is_no_json_object_is_told_with_line_and_column(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_document(write(tmp_path / "pylantir.json", text))
    (line,) = caught.value.problems
    assert problem in line


def test_unreadable_file_is_a_configuration_error(tmp_path: Path) -> None:
    path = tmp_path / "pylantir.json"
    with pytest.raises(ConfigurationError, match=r"pylantir\.json: cannot be read"):
        read_document(path)
    path.write_bytes(b'{"a": "\xff"}')
    with pytest.raises(ConfigurationError, match="not UTF-8"):
        read_document(path)


def test_duplicate_key_is_told_with_both_places(tmp_path: Path) -> None:
    text = '{"_a": 1, "b": [{}, {"c": {"x": "}",\n  "y": {"x": 1}, "\\u0078": 2}}], "_a": 2}'
    _, findings = read_document(write(tmp_path / "pylantir.json", text))
    assert [finding.line("pylantir.json", {}) for finding in findings] == [
        'pylantir.json: b[1].c: line 2, column 18: duplicate key "x", first in line 1'
    ]


def test_second_duplicate_is_told_with_its_own_line(tmp_path: Path) -> None:
    _, findings = read_document(write(tmp_path / "pylantir.json", '{"a": 1,\n"a": 2,\n"a": 3}'))
    assert [finding.text for finding in findings] == [
        'line 2, column 1: duplicate key "a", first in line 1',
        'line 3, column 1: duplicate key "a", first in line 1',
    ]


@brief
@given(document=st.dictionaries(st.text(), JSON_VALUES), indent=st.sampled_from([None, 2]))
def test_document_without_repeated_keys_has_no_duplicates(
    tmp_path_factory: pytest.TempPathFactory, document: dict[str, object], indent: int | None
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    read, findings = read_document(write(path, json.dumps(document, indent=indent)))
    assert findings == []
    assert read.keys() == {key for key in document if not key.startswith("_")}


@brief
@given(document=st.dictionaries(st.sampled_from(SECTIONS), JSON_VALUES, min_size=1))
def test_any_document_without_a_source_gives_problems_of_a_line_each(
    tmp_path_factory: pytest.TempPathFactory, document: dict[str, object]
) -> None:
    path = write(tmp_path_factory.getbasetemp() / "any.json", json.dumps(document))
    with pytest.raises(ConfigurationError) as caught:
        load_settings(path, discover=lambda dirs: Catalogue(types={}), environ={})
    assert all(line.startswith("any.json: ") and line.isprintable() for line in caught.value.problems)
