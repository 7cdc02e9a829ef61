"""Configurations of earlier versions work unchanged."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pylantir.config.loading import load_settings
from pylantir.config.sections.legacy import convert, is_old
from pylantir.data_sources.registry import discover
from pylantir.errors import ConfigurationError
from pylantir.settings import OperationWindow, Settings

OLD: dict[str, Any] = {
    "db_path": "data/worklist.db",
    "db_echo": "False",
    "db_update_interval": 90,
    "operation_interval": {"start_time": [6, 30], "end_time": [18, 0]},
    "allowed_aet": [],
    "site": "792",
    "redcap2wl": {"study_id": "study_id", "mri_instance": "session_id", "youth_dob_y": "patient_birth_date"},
    "protocol": {"792": "BRAIN_MRI_3T", "mapping": "GEHC"},
}
VARIABLES = {"REDCAP_API_URL": "https://redcap.example/api/", "REDCAP_API_TOKEN": "A" * 32}
Load = Callable[..., Settings]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    (tmp_path / "site").mkdir()
    (tmp_path / "etc").mkdir()
    monkeypatch.chdir(tmp_path / "site")
    path = tmp_path / "etc" / "mri.json"

    def write_and_load(document: object, environ: dict[str, str] | None = None) -> Settings:
        path.write_text(json.dumps(document))
        settings = load_settings(path, discover=discover, environ=VARIABLES | (environ or {}))
        told = tuple(line for line in settings.warnings if "gets the worklist" not in line)
        return replace(settings, warnings=told)

    return write_and_load


@pytest.mark.parametrize(
    "document", [OLD, {**OLD, "data_sources": []}, {**OLD, "legacy_mode": True, "data_sources": [{"name": 1}]}]
)
def test_old_keys_become_one_redcap_source_with_one_warning(load: Load, document: dict[str, Any]) -> None:
    settings = load(document)
    (source,) = settings.sources
    assert (source.name, source.plugin.type_name, source.sync_interval_s) == ("redcap_legacy", "redcap", 90.0)
    assert source.window == OperationWindow(start_minute=390, end_minute=1080)
    assert source.config == {
        "api_url_env": "REDCAP_API_URL",
        "api_token_env": "REDCAP_API_TOKEN",
        "site_id": "792",
        "protocol": {"792": "BRAIN_MRI_3T", "mapping": "GEHC"},
        "legacy": True,
    }
    assert source.field_mapping == OLD["redcap2wl"]
    assert source.env_values == VARIABLES
    assert len(settings.warnings) == 1
    assert "`pylantir init --from mri.json` writes the new form with data_sources" in settings.warnings[0]


def test_relative_paths_keep_the_working_directory(load: Load, tmp_path: Path) -> None:
    assert load(OLD).db_url == f"sqlite:///{tmp_path}/site/data/worklist.db"
    assert load(OLD).base_dir == str(tmp_path / "site")


def test_database_without_db_path_is_where_it_was(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    document = {key: value for key, value in OLD.items() if key not in {"db_path", "db_echo"}}
    monkeypatch.setenv("HOME", "/home/someone")
    assert load(document).db_url == "sqlite:////home/someone/Desktop/worklist.db"
    settings = load(document, {"DB_PATH": "/data/w.db", "DB_ECHO": "True", "DEBUG": "true"})
    assert (settings.db_url, settings.db_echo, settings.log.level) == ("sqlite:////data/w.db", True, "DEBUG")
    assert load(OLD, {"DB_PATH": "/data/w.db"}).db_url.endswith("/site/data/worklist.db")


def test_unknown_worklist_field_is_a_warning(load: Load) -> None:
    settings = load({**OLD, "redcap2wl": {"hair": "hair_colour", "demo_sex": "patient_sex"}})
    assert len(settings.warnings) == 2
    assert settings.warnings[1].startswith('mri.json: redcap2wl.hair: unknown worklist field "hair_colour"')
    assert settings.sources[0].field_mapping == {"hair": "hair_colour", "demo_sex": "patient_sex"}


def test_fields_that_are_fetched_anyway_may_be_mapped_to_themselves(load: Load) -> None:
    settings = load({**OLD, "redcap2wl": {"study_id": "study_id", "t1_date": "t1_date", "demo_sex": "demo_sex"}})
    assert len(settings.warnings) == 1
    assert settings.sources[0].field_mapping == {"study_id": "study_id"}


def test_problem_is_told_with_the_old_key(load: Load) -> None:
    wrong = {"db_update_interval": "5m", "redcap2wl": 7, "operation_interval": {"start_time": [25, 0]}}
    with pytest.raises(ConfigurationError) as caught:
        load({**OLD, **wrong})
    assert set(caught.value.problems) == {
        'mri.json: db_update_interval: expected a number of seconds >= 1, got "5m"',
        "mri.json: redcap2wl: expected an object, got 7",
        "mri.json: operation_interval.start_time: hour must be 0-23, got 25",
    }


def test_keys_without_effect_are_accepted(load: Load) -> None:
    extra = {"mri_visit_session_mapping": {"t1": "1"}, "users_db_path": "users.db", "api": {"port": 8000}}
    assert len(load({**OLD, **extra}).warnings) == 1


def test_sources_win_over_old_keys_beside_them(load: Load) -> None:
    source = {"name": "a", "type": "csv", "defaults": {"modality": "CT"}}
    settings = load({**OLD, "data_sources": [source]})
    assert [source.name for source in settings.sources] == ["a"]
    assert settings.warnings == (
        (
            'mri.json: "redcap2wl", "site", "protocol", "db_update_interval", "operation_interval": ignored, '
            "as data_sources is given; set legacy_mode to use the old keys"
        ),
    )


def test_converted_configuration_loads_and_means_the_same(load: Load) -> None:
    document = {**OLD, "db_path": "/data/w.db", "redcap2wl": {"t1_date": "t1_date"}}
    old, new = load(document), load(convert(document))
    assert new.sources == old.sources
    assert (new.db_url, new.dicom) == (old.db_url, old.dicom)
    assert not is_old(convert(document))
    assert convert({"redcap2wl": {}})["db_path"] == "~/Desktop/worklist.db"
