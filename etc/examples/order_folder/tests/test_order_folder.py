"""What becomes of the orders in a folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from pylantir_order_folder import OrderFolderPlugin

from pylantir.errors import ConfigurationError, SourceUnavailable
from pylantir.testing import run_plugin

MAPPING = {"patient.id": "patient_id", "start": "scheduled_start"}


def test_orders_become_entries(tmp_path: Path) -> None:
    (tmp_path / "1.json").write_text('{"patient": {"id": "P1"}, "start": "2030-12-01T08:30"}', encoding="utf-8")
    (tmp_path / "2.json").write_text("half an or", encoding="utf-8")

    config = {"folder": str(tmp_path)}
    result = run_plugin(OrderFolderPlugin, config=config, field_mapping=MAPPING, defaults={"modality": "MR"})

    (entry,) = result.entries
    assert entry["source_record_id"] == "1"
    assert (entry["scheduled_start_date"], entry["scheduled_start_time"]) == ("20301201", "083000")
    assert [(one.record, one.reason) for one in result.rejected] == [("2.json", "is no JSON object")]


def test_only_files_that_are_there_are_orders(tmp_path: Path) -> None:
    (tmp_path / "1.json").write_text("{}", encoding="utf-8")
    plugin = OrderFolderPlugin()
    assert plugin.validate_config({"folder": str(tmp_path)})[0]
    assert plugin.has_changed()
    list(plugin.fetch_entries(MAPPING, 60))
    assert not plugin.has_changed()
    (tmp_path / "1.json").rename(tmp_path / "2.json")
    assert plugin.has_changed()
    assert list(plugin.current_record_ids()) == ["2"]


def test_a_folder_that_is_absent_fails_the_fetch(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailable):
        run_plugin(OrderFolderPlugin, config={"folder": str(tmp_path / "absent")}, field_mapping=MAPPING)


def test_a_configuration_without_a_folder_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="folder: expected"):
        run_plugin(OrderFolderPlugin, config={}, field_mapping=MAPPING)
