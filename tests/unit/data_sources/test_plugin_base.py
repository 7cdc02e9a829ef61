"""The plugin interface and the extras beside it."""

from __future__ import annotations

from typing import Any

import pytest

from pylantir.data_sources.base import DataSourcePlugin, WatchesForChanges


class Minimal(DataSourcePlugin):
    def validate_config(self, config: dict[str, Any]) -> tuple[bool, str]:
        return True, ""

    def fetch_entries(self, field_mapping: dict[str, str], interval: float) -> list[dict[str, Any]]:
        return []

    def get_source_name(self) -> str:
        return "minimal"


class Watching(Minimal):
    def has_changed(self) -> bool:
        return True


def test_the_three_methods_are_enough() -> None:
    plugin = Minimal()
    assert plugin.supports_incremental_sync() is False
    plugin.cleanup()


def test_none_of_the_three_methods_may_lack() -> None:
    for name in ("validate_config", "fetch_entries", "get_source_name"):
        assert name in DataSourcePlugin.__abstractmethods__
    with pytest.raises(TypeError):
        DataSourcePlugin()  # type: ignore[abstract]


def test_having_the_method_makes_a_plugin_watch() -> None:
    assert isinstance(Watching(), WatchesForChanges)
    assert not isinstance(Minimal(), WatchesForChanges)


@pytest.mark.parametrize(
    ("record", "source_field", "expected"),
    [
        ({"id": 1}, "id", {"patient_id": 1}),
        ({"patient": {"id": 1}}, "patient.id", {"patient_id": 1}),
        ({"patient.id": 2, "patient": {"id": 1}}, "patient.id", {"patient_id": 2}),
        ({"ids": [{"value": 1}, {"value": 2}]}, "ids.1.value", {"patient_id": 2}),
        ({"ids": [1]}, "ids.1", {}),
        ({"patient": None}, "patient.id", {}),
        ({"patient": "id"}, "patient.id", {}),
        ({}, "id", {}),
        ({"id": None}, "id", {"patient_id": None}),
    ],
)
def test_a_record_is_mapped_by_name_or_by_path(
    record: dict[str, object], source_field: str, expected: dict[str, object]
) -> None:
    assert Minimal().map_record(record, {source_field: "patient_id"}) == expected


def test_of_several_source_fields_the_first_with_a_value_counts() -> None:
    mapping = {"mrn": "patient_id", "old_mrn": "patient_id", "oldest_mrn": "patient_id"}
    record = {"mrn": "", "old_mrn": "P2", "oldest_mrn": "P3"}
    assert Minimal().map_record(record, mapping) == {"patient_id": "P2"}
