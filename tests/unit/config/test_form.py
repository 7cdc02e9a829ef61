"""The form of a configuration, judged without a file: what is found, where, and what is said about it."""

from __future__ import annotations

import pytest

from pylantir.config.form import check_form, no_source, top_level_warnings
from pylantir.config.models.source import Source


def test_a_right_document_gives_the_configuration() -> None:
    configuration, findings = check_form({"dicom": {"port": 104}, "data_sources": [{"name": "a", "type": "csv"}]})
    assert findings == []
    assert configuration is not None
    assert configuration.dicom.port == 104
    assert [source.name for source in configuration.data_sources] == ["a"]


@pytest.mark.parametrize(
    ("document", "place", "text"),
    [
        ({"dicom": {"port": "104"}}, ("dicom", "port"), 'expected a port number 1-65535, got "104"'),
        ({"dicom": {"prot": 104}}, ("dicom",), 'unknown key "prot": did you mean "port"?'),
        ({"data_sources": [{"type": "csv"}]}, ("data_sources", 0), 'the key "name" is missing'),
        (
            {"data_sources": [{"name": "a", "type": "csv", "file_pth": "a.csv"}]},
            ("data_sources", 0),
            (
                f'unknown key "file_pth"; known are {", ".join(Source.model_fields)}; what the source\'s type itself needs, '
                'as file_path, stands in "config"'
            ),
        ),
        (
            {"data_sources": [{"name": "a", "type": "csv", "field_mapping": {"patient_id": {"fro": "mrn"}}}]},
            ("data_sources", 0, "field_mapping", "patient_id"),
            'unknown key "fro": did you mean "from"?',
        ),
    ],
)
def test_a_wrong_form_is_named_with_its_place(document: dict[str, object], place: object, text: str) -> None:
    configuration, findings = check_form(document)
    assert configuration is None
    assert [(finding.place, finding.text) for finding in findings] == [(place, text)]


def test_an_unknown_key_of_the_file_is_ignored_with_the_key_that_was_meant() -> None:
    (finding,) = top_level_warnings({"data_source": []}, "p.json", old=False)
    assert finding.text == 'unknown key "data_source" is ignored: did you mean "data_sources"?'


@pytest.mark.parametrize(
    ("key", "place"), [("port", '"dicom"'), ("ae_title", '"dicom"'), ("field_mapping", 'a source of "data_sources"')]
)
def test_a_key_outside_its_section_is_told_where_it_stands(key: str, place: str) -> None:
    (finding,) = top_level_warnings({key: 11112, "data_sources": []}, "p.json", old=False)
    assert finding.text == f'unknown key "{key}" is ignored: it stands in {place}'


def test_a_file_without_sources_is_told_what_to_add() -> None:
    assert no_source({}).text.startswith("is missing: add a source")
    assert no_source({"data_sorces": []}).text == 'is missing: is "data_sorces" meant?'
    assert no_source({"data_sources": []}).text.startswith("is empty: add a source")
