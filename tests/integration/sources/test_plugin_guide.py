"""The demo's sources and the examples of the plugin guide do what they are said to do."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from pylantir.data_sources import csv_file, json_file
from pylantir.data_sources.base import BadRecord
from pylantir.data_sources.csv_file import CsvPlugin
from pylantir.data_sources.json_file import JsonPlugin
from pylantir.data_sources.registry import discover, load_plugin
from pylantir.entry import WorklistEntry
from pylantir.mapping import EntryMapper

ROOT = Path(__file__).parents[3]
DEMO = ROOT / "etc/demo"
GUIDE = (ROOT / "docs/howto/write-a-plugin.md").read_text(encoding="utf-8")
CALENDAR, _ = re.findall(r"^```python\n(.*?)^```", GUIDE, re.DOTALL | re.MULTILINE)


def demo_entries(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[WorklistEntry]]:
    monkeypatch.chdir(DEMO)
    configuration = json.loads(Path("pylantir.json").read_text(encoding="utf-8"))
    catalogue = discover(configuration["plugin_dirs"])
    assert not catalogue.problems
    entries = {}
    for source in configuration["data_sources"]:
        plugin = load_plugin(catalogue.types[source["type"]])
        assert plugin.validate_config(source["config"])[0]
        mapper = EntryMapper(source["defaults"])
        fetched = plugin.fetch_entries(source["field_mapping"], 60)
        entries[source["name"]] = [mapper.to_entry(entry) for entry in fetched if not isinstance(entry, BadRecord)]
    return entries


def test_every_record_of_the_demo_becomes_an_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = demo_entries(monkeypatch)
    assert {name: len(found) for name, found in entries.items()} == {
        "clinic_csv": 7,
        "research_json": 5,
        "booking_calendar": 2,
    }
    names = {entry.fields["patient_name"] for found in entries.values() for entry in found}
    assert {"Yamada^Tarou=山田^太郎=やまだ^たろう", "Brontë^Emily", "Σαπφώ^Μαρία"} <= names


def test_the_sources_of_the_demo_share_patients(monkeypatch: pytest.MonkeyPatch) -> None:
    patients = [{entry.fields["patient_id"] for entry in found} for found in demo_entries(monkeypatch).values()]
    assert patients[0] & patients[1]
    assert patients[0] & patients[2]


def test_the_whole_plugin_of_the_guide_is_the_one_of_the_demo_and_short() -> None:
    assert (ROOT / "etc/examples/plugins/icalendar_file.py").read_text(encoding="utf-8") == CALENDAR
    assert len(CALENDAR.splitlines()) < 50


def test_the_configuration_in_the_guide_is_the_one_of_the_demo() -> None:
    (block,) = re.findall(r"^```json\n(.*?)^```", GUIDE, re.DOTALL | re.MULTILINE)
    configuration = json.loads((DEMO / "pylantir.json").read_text(encoding="utf-8"))
    assert json.loads(block) in configuration["data_sources"]


@pytest.mark.parametrize(
    ("page", "plugin", "keys"), [("csv", CsvPlugin(), csv_file.KEYS), ("json", JsonPlugin(), json_file.KEYS)]
)
def test_the_configuration_in_a_file_guide_is_valid(
    page: str, plugin: CsvPlugin | JsonPlugin, keys: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / f"docs/howto/{page}.md").read_text(encoding="utf-8")
    monkeypatch.setenv("BOOKING_TOKEN", "x")
    for block in re.findall(r"^```json\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        assert plugin.validate_config(json.loads(block)["config"]) == (True, "")
    options = re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)
    assert set(options) == set(keys)
    assert "unknown key" not in plugin.validate_config(dict.fromkeys(options))[1]
