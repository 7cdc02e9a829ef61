"""Each export of the corpus becomes the worklist that is written beside it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parent
EXPORTS = sorted(path.parent for path in FOLDER.glob("*/source.json"))


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    code = f"from {program} import main; raise SystemExit(main())"
    command = [sys.executable, "-c", code, *arguments]
    environment = {**os.environ, "TZ": "UTC"}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)


def preview(folder: Path, workplace: Path) -> dict[str, Any]:
    """Give what `pylantir preview` says of an export."""
    shutil.copytree(folder, workplace, dirs_exist_ok=True)
    for path in workplace.iterdir():
        os.utime(path, (1.7e9, 1.7e9))
    source = json.loads((folder / "source.json").read_text(encoding="utf-8"))
    configuration = workplace / "pylantir.json"
    configuration.write_text(json.dumps({"data_sources": [source]}), encoding="utf-8")
    shown = json.loads(
        run("pylantir.cli.main", "preview", source["name"], "--json", "--config", str(configuration)).stdout
    )
    entries = [{"record": entry["record"], "fields": entry["fields"]} for entry in shown["entries"]]
    return {"entries": entries, **{name: shown[name] for name in ("rejected", "warnings", "error")}}


@pytest.mark.parametrize("folder", EXPORTS, ids=lambda folder: folder.name)
def test_export_becomes_its_worklist(folder: Path, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    found = preview(folder, tmp_path / folder.name)
    expected = folder / "expected.json"
    if pytestconfig.getoption("--export-expectations"):
        expected.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    assert found == json.loads(expected.read_text(encoding="utf-8"))


def test_the_configurations_of_all_exports_pass_the_check_in_one(tmp_path: Path) -> None:
    sources = []
    for folder in EXPORTS:
        shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
        sources.append({**json.loads((folder / "source.json").read_text(encoding="utf-8")), "name": folder.name})
    configuration = tmp_path / "pylantir.json"
    configuration.write_text(json.dumps({"data_sources": sources}), encoding="utf-8")
    checked = run("workers.commands.cli", "check", "--config", str(configuration))
    assert checked.returncode == 0, checked.stderr
