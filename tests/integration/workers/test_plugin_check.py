"""A plugin's own check: what it prints is counted, and shown at DEBUG only."""

from __future__ import annotations

import json
from pathlib import Path

from workers.supervisor.check import check_configuration

PLUGIN = """
import os
from pylantir.data_sources.base import DataSourcePlugin
class Plugin(DataSourcePlugin):
    def validate_config(self, config):
        print("Doe\\u202e", os.environ["SOME_TOKEN"])
        os.write(2, b"of C\\n")
        print("unfinished", end="")
        {ending}
    def fetch_entries(self, field_mapping, interval): return []
    def get_source_name(self): return "test"
"""


def check(folder: Path, level: str) -> tuple[str, ...]:
    source = {"field_mapping": {"id": "patient_id"}, "config": {"token_env": "SOME_TOKEN"}}
    endings = {"right": "return True, ''", "ends": "sys.stdout.flush(); os._exit(3)", "broken": "raise KeyError('Doe')"}
    (folder / "plugins").mkdir(exist_ok=True)
    for name, ending in endings.items():
        (folder / "plugins" / f"{name}.py").write_text("import sys" + PLUGIN.replace("{ending}", ending))
    sources = [{"name": name, "type": name, **source} for name in endings]
    (folder / "site.json").write_text(json.dumps({"data_sources": sources, "log": {"level": level}}))
    checked = check_configuration(folder / "site.json", {"SOME_TOKEN": "s3cret-token"}, {})
    assert checked.settings is not None, checked.problems
    return checked.settings.warnings


def test_what_a_plugin_prints_in_its_check_is_counted_and_shown_at_debug_only(tmp_path: Path) -> None:
    said = check(tmp_path, "INFO")
    for name in ("right", "ends", "broken"):
        path = tmp_path / "plugins" / f"{name}.py"
        start = f"site.json: source {name}: config: plugin {name} ({path}) has printed lines: 3; shown with"
        assert [line.startswith(start) for line in said].count(True) == 1
    assert "Doe" not in str(said)

    shown = check(tmp_path, "DEBUG")
    for name in ("right", "ends", "broken"):
        prints = [
            line.partition(") prints: ")[2] for line in shown if f"source {name}: " in line and "prints: " in line
        ]
        # Two streams: their lines may come in any order.
        assert sorted(prints) == ["Doe\\u202e ***", "of C", "unfinished"]
    assert "KeyError: 'Doe'" in str(shown).replace("\\'", "'")
    assert "s3cret-token" not in str(shown)


def test_a_check_that_prints_without_end_is_one_that_hangs(tmp_path: Path) -> None:
    (tmp_path / "plugins").mkdir()
    text = "import sys" + PLUGIN.replace("{ending}", "[print('x' * 4000) for _ in iter(int, 1)]")
    (tmp_path / "plugins" / "floods.py").write_text(text)
    source = {"name": "floods", "type": "floods", "config": {"token_env": "SOME_TOKEN"}}
    (tmp_path / "site.json").write_text(json.dumps({"data_sources": [source]}))
    checked = check_configuration(tmp_path / "site.json", {"SOME_TOKEN": "s3cret-token"}, {})
    assert checked.settings is not None
    assert any("its check hangs" in line for line in checked.settings.warnings)
