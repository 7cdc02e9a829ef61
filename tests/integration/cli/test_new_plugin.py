"""`pylantir new-plugin`: what it writes works, is typed, and its test notices when the plugin breaks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PYLANTIR = Path(sys.executable).with_name("pylantir")


def run(folder: Path, *command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, command)), cwd=folder, capture_output=True, text=True, timeout=100, check=False)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    # A source may name the type before the plugin exists.
    (tmp_path / "pylantir.json").write_text('{"data_sources": [{"name": "mine", "type": "ward_list"}]}')
    return tmp_path


def test_the_plugin_is_typed_and_its_test_fails_once_it_breaks(home: Path) -> None:
    written = run(home, PYLANTIR, "new-plugin", "ward_list")
    plugin, test = home / "plugins/ward_list.py", home / "plugins/tests/test_ward_list.py"
    assert written.returncode == 0, written.stderr
    assert {f"written: {plugin}", f"written: {test}"} <= set(written.stdout.splitlines())

    checked = run(home, sys.executable, "-m", "mypy", "--strict", plugin, test)
    assert checked.returncode == 0, checked.stdout
    pytest_alone = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    passed = run(home, *pytest_alone, test.relative_to(home))
    assert "3 passed" in passed.stdout, passed.stdout + passed.stderr
    assert "ward_list" in run(home, PYLANTIR, "plugins", "--json").stdout

    text = plugin.read_text(encoding="utf-8")
    plugin.write_text(text.replace("self.map_record(record, field_mapping)", "record"), encoding="utf-8")
    assert "1 failed" in run(home, *pytest_alone, test.relative_to(home)).stdout

    again = run(home, PYLANTIR, "new-plugin", "ward_list")
    assert again.returncode == 1
    assert "not overwritten" in again.stderr
    assert plugin.read_text(encoding="utf-8") != text


@pytest.mark.parametrize("name", ["csv", "SQL", "ward-list", "1st", "class", "_hidden", "../up", ""])
def test_a_name_that_cannot_be_a_types_writes_nothing(home: Path, name: str) -> None:
    refused = run(home, PYLANTIR, "new-plugin", name)
    assert refused.returncode == 2
    assert refused.stdout == ""
    assert refused.stderr
    assert [path.name for path in home.iterdir()] == ["pylantir.json"]


def test_it_is_written_where_the_configuration_looks_for_plugins(home: Path) -> None:
    (home / "pylantir.json").write_text('{"plugin_dirs": ["own"], "data_sources": []}')
    assert run(home, PYLANTIR, "new-plugin", "ward_list").returncode == 0
    assert (home / "own/ward_list.py").is_file()
    assert (home / "own/tests/test_ward_list.py").is_file()
