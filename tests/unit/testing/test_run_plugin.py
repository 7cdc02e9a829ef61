"""`pylantir.testing.run_plugin` treats records as the host does."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from pylantir.data_sources.base import BadRecord, DataSourcePlugin
from pylantir.data_sources.csv_file import CsvPlugin
from pylantir.errors import ConfigurationError, PluginError
from pylantir.testing import load_plugin_class, run_plugin

FIELDS = {"id": "patient_id", "day": "scheduled_start_date"}


class Given(DataSourcePlugin):
    """Gives the records of its `config`, and says in class attributes what was called."""

    incremental = False
    cleaned = 0

    def validate_config(self, config: dict[str, Any]) -> tuple[bool, str]:
        self.records = config.get("records", [])
        return "records" in config, "records: expected a list"

    def fetch_entries(self, field_mapping: dict[str, Any], interval: float) -> Iterable[Any]:
        for record in self.records:
            yield self.map_record(record, field_mapping) if isinstance(record, dict) else record

    def get_source_name(self) -> str:
        return "given records"

    def supports_incremental_sync(self) -> bool:
        return self.incremental

    def cleanup(self) -> None:
        type(self).cleaned += 1


class Changes(Given):
    incremental = True


def test_entries_are_in_dicom_form_with_defaults_and_exact_repeats_count_once() -> None:
    records = [{"id": " P1 ", "day": "2030-01-31"}, {"id": "P1", "day": "20300131"}]
    result = run_plugin(Given, config={"records": records}, field_mapping=FIELDS, defaults={"modality": "CT"})
    assert result.entries == [{"patient_id": "P1", "scheduled_start_date": "20300131", "modality": "CT"}]
    assert result.rejected == []


def test_refused_records_say_where_what_and_why() -> None:
    records = [{"id": "", "day": "2030-01-31"}, BadRecord(record="row 2", field="x", reason="torn"), "text"]
    result = run_plugin(Given, config={"records": records}, field_mapping=FIELDS)
    assert result.entries == []
    assert [(one.record, one.field) for one in result.rejected] == [
        ("record 1", "patient_id"), ("row 2", "x"), ("record 3", ""),
    ]  # fmt: skip
    assert all(one.reason for one in result.rejected)


def test_a_second_record_of_the_same_identity_is_refused_in_a_snapshot_and_counts_among_changes() -> None:
    mapping = {**FIELDS, "nr": "source_record_id"}
    records = [{"nr": 1, "id": "P1", "day": "2030-01-31"}, {"nr": 1, "id": "P1", "day": "2030-02-01"}]
    snapshot = run_plugin(Given, config={"records": records}, field_mapping=mapping)
    assert [one["scheduled_start_date"] for one in snapshot.entries] == ["20300131"]
    assert [(one.record, one.field) for one in snapshot.rejected] == [("record 2", "source_record_id")]
    changes = run_plugin(Changes, config={"records": records}, field_mapping=mapping)
    assert [one["scheduled_start_date"] for one in changes.entries] == ["20300201"]


def test_the_sources_other_keys_count() -> None:
    moment = datetime.fromisoformat("2030-01-31T23:30+00:00")
    records = [
        {"id": "1", "start": moment, "born": "31.13.1980", "room": "MR 1"},
        {"id": "2", "start": moment, "room": "CT"},
    ]
    result = run_plugin(
        Given,
        config={"records": records},
        field_mapping={"id": "patient_id", "start": "scheduled_start", "born": "patient_birth_date"},
        timezone="Europe/Berlin",
        patient_id_prefix="S-",
        date_format="%d.%m.%Y",
        where={"room": "MR 1"},
    )
    (entry,) = result.entries
    assert (entry["patient_id"], entry["scheduled_start_date"], entry["scheduled_start_time"]) == (
        "S-1", "20300201", "003000",
    )  # fmt: skip
    assert [(one.field, one.count) for one in result.warnings] == [("patient_birth_date", 1)]


def test_a_refused_configuration_raises_with_the_plugins_message() -> None:
    before = Given.cleaned
    with pytest.raises(ConfigurationError, match=r"^records: expected a list$"):
        run_plugin(Given, config={}, field_mapping={})
    assert Given.cleaned == before + 1


def test_a_wrong_key_of_the_source_raises_with_its_place() -> None:
    with pytest.raises(ConfigurationError, match='source: unknown key "time_zone": did you mean "timezone"'):
        run_plugin(Given, config={"records": []}, field_mapping={}, time_zone="UTC")
    with pytest.raises(ConfigurationError, match=r"field_mapping\.born: unknown worklist field"):
        run_plugin(Given, config={"records": []}, field_mapping={"born": "patient_birth_dat"})


def test_what_the_plugin_raises_comes_out() -> None:
    class Broken(Given):
        def fetch_entries(self, field_mapping: dict[str, Any], interval: float) -> list[Any]:
            raise KeyError(interval)

    with pytest.raises(KeyError):
        run_plugin(Broken, config={"records": []}, field_mapping={})


def test_built_in_types_run_too(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,day\nP1,2030-01-31\n")
    result = run_plugin(CsvPlugin, config={"file_path": str(tmp_path / "a.csv")}, field_mapping=FIELDS)
    assert [one["patient_id"] for one in result.entries] == ["P1"]


def test_a_plugin_file_is_loaded_by_the_rules_of_a_plugin_folder(tmp_path: Path) -> None:
    base = "from pylantir.data_sources.base import DataSourcePlugin\n"
    (tmp_path / "two.py").write_text(
        f"{base}class A(DataSourcePlugin):\n    type_name = 'a'\nclass B(DataSourcePlugin):\n    type_name = 'b'\n"
    )
    assert load_plugin_class(tmp_path / "two.py", "b").__name__ == "B"
    with pytest.raises(PluginError, match="name one: a, b"):
        load_plugin_class(tmp_path / "two.py")
    with pytest.raises(PluginError, match='no plugin "c"'):
        load_plugin_class(tmp_path / "two.py", "c")
