"""Mappings as the READMEs of the public versions have them are understood, and it is said how to write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pylantir.config.loading import load_settings
from pylantir.config.sections.turned import turn_mapping
from pylantir.data_sources.registry import discover
from pylantir.errors import ConfigurationError
from pylantir.settings import Settings

RECOMMENDED = {
    "study_id": "study_id", "instrument": "redcap_repeat_instrument", "session_id": "mri_instance",
    "family_id": "family_id", "youth_dob_y": "youth_dob_y", "t1_date": "t1_date", "demo_sex": "demo_sex",
    "scheduled_date": "mri_date", "scheduled_time": "mri_time", "mri_wt_lbs": "patient_weight_lb",
    "status": "performed_procedure_step_status",
}  # fmt: skip
UNDERSTOOD = {
    "study_id": "study_id", "mri_instance": "session_id", "family_id": "family_id",
    "youth_dob_y": "patient_birth_date", "demo_sex": "patient_sex", "mri_date": "scheduled_start_date",
    "mri_time": "scheduled_start_time", "mri_wt_lbs": "patient_weight_lb", "status": "performed_procedure_step_status",
}  # fmt: skip
CALPENDO = {
    "patient_id": {"source_field": "title", "_extract": {"pattern": "^([A-Z0-9]+)_.*", "group": 1}},
    "study_description": {"source_field": "properties.project.formattedName", "_extract": {"pattern": "^([^(]+)"}},
    "accession_number": "id",
}
VARIABLES = {"REDCAP_API_URL": "https://redcap.example/api/", "REDCAP_API_TOKEN": "A" * 32}


def load(folder: Path, source: dict[str, Any]) -> Settings:
    path = folder / "pylantir.json"
    path.write_text(json.dumps({"data_sources": [source]}), encoding="utf-8")
    return load_settings(path, discover=discover, environ=VARIABLES)


def test_the_recommended_form_for_redcap_is_understood_with_a_warning_each(tmp_path: Path) -> None:
    config = {"site": "792", "protocol": "BRAIN_MRI_3T"}
    settings = load(tmp_path, {"name": "main", "type": "redcap", "config": config, "field_mapping": RECOMMENDED})
    assert settings.sources[0].field_mapping == UNDERSTOOD
    told = [line for line in settings.warnings if "field_mapping" in line]
    assert len(told) == 7
    assert any('"session_id": "mri_instance" is understood as "mri_instance": "session_id"' in line for line in told)
    assert any('"t1_date": "t1_date" has no effect' in line for line in told)


def test_a_field_that_is_mapped_already_is_not_mapped_again() -> None:
    mapping, told = turn_mapping({"visit": "session_id", "session_id": "mri_instance"}, "redcap")
    assert mapping == {"visit": "session_id"}
    assert "is mapped already" in told[0]


@pytest.mark.parametrize("source_type", ["csv", "redcap"])
def test_a_mapping_of_today_is_left_alone(source_type: str) -> None:
    for mapping in (UNDERSTOOD, {"a": "patient_id", "patient_name": {"from": ["l", "f"]}}, {"x": "nonsense"}):
        assert turn_mapping(mapping, source_type) == (mapping, [])


def test_the_public_form_of_a_booking_system_means_the_same(tmp_path: Path) -> None:
    source = {"name": "b", "type": "json", "config": {"file_path": "b.json"}, "field_mapping": CALPENDO}
    settings = load(tmp_path, source)
    assert settings.sources[0].field_mapping == {**CALPENDO, "accession_number": {"from": "id"}}
    assert any(
        '"accession_number": "id" is understood as "accession_number": {"from": "id"}' in line
        for line in settings.warnings
    )


def test_the_public_type_for_calpendo_says_where_it_is_now(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="booking_system"):
        load(tmp_path, {"name": "b", "type": "calpendo", "config": {}, "field_mapping": CALPENDO})
