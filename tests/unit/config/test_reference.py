"""The configuration reference is complete, and its examples work."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from pylantir.config.loading import load_settings
from pylantir.config.models import configuration, serving, source
from pylantir.data_sources.registry import discover
from pylantir.entry import MAPPING_TARGETS

REFERENCE = Path(__file__).parents[3] / "docs" / "reference" / "configuration.md"
SECTIONS = (
    configuration.Configuration,
    serving.Dicom,
    source.Source,
    source.MappedField,
    source.OldExtract,
    source.NotListed,
    source.OperationInterval,
    serving.Mwl,
    serving.Tls,
    serving.Scanner,
    serving.Mpps,
    configuration.Deduplication,
    configuration.Retention,
    configuration.Access,
    configuration.Cluster,
    configuration.SyslogTls,
    configuration.Log,
    serving.Http,
    serving.HttpTls,
    serving.HttpUser,
)
EXAMPLES = re.findall(r"```json\n(.*?)```", REFERENCE.read_text(encoding="utf-8"), re.DOTALL)
VARIABLES = {"REDCAP_API_URL": "https://redcap.example/api/", "REDCAP_API_TOKEN": "A" * 32}


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_stands_in_the_reference_with_its_description(section: type[BaseModel]) -> None:
    reference = REFERENCE.read_text(encoding="utf-8")
    for name, field in section.model_fields.items():
        assert field.description
        row = rf"^\| `{re.escape(field.alias or name)}` \|[^|]*\| {re.escape(field.description)} \|$"
        assert re.search(row, reference, re.MULTILINE), name


def test_every_worklist_field_stands_in_the_reference() -> None:
    reference = REFERENCE.read_text(encoding="utf-8")
    assert [field for field in sorted(MAPPING_TARGETS) if f"`{field}`" not in reference] == []


@pytest.mark.parametrize("example", EXAMPLES)
def test_example_loads(tmp_path: Path, example: str) -> None:
    (tmp_path / "plugins").mkdir()
    path = tmp_path / "pylantir.json"
    path.write_text(example, encoding="utf-8")
    assert load_settings(path, discover=discover, environ=VARIABLES).enabled_sources


def test_example_loads_with_redcap_switched_off_and_no_variable_set(tmp_path: Path) -> None:
    path = tmp_path / "pylantir.json"
    path.write_text(EXAMPLES[0].replace('"enabled": true', '"enabled": false'), encoding="utf-8")
    settings = load_settings(path, discover=discover, environ={})
    assert [source.name for source in settings.enabled_sources] == ["site_b_csv"]
    assert settings.runtime_dir == str(tmp_path / "run")
    assert settings.dicom.allowed_aet == ("MRI_SCANNER",)


def test_schema_describes_every_key_and_allows_comments() -> None:
    schema = configuration.configuration_schema()
    json.dumps(schema)
    objects = [schema, *schema["$defs"].values()]
    assert {part["title"] for part in objects} == {section.__name__ for section in SECTIONS}
    for part in objects:
        assert "^_" in part["patternProperties"]
        assert all(key.get("description") for key in part["properties"].values())
    source = schema["$defs"]["Source"]
    assert source["additionalProperties"] is False
    assert source["required"] == ["name", "type"]
    assert source["properties"]["sync_interval"]["minimum"] == 1
    assert "$schema" in schema["properties"]
