"""The drawn pictures are those of their texts, and the texts say what the program says."""

from __future__ import annotations

import importlib.util
import re
import sys
import tomllib
from pathlib import Path

import pytest
from pages import REPOSITORY

PICTURES = REPOSITORY / "docs/pictures"
SPEC = importlib.util.spec_from_file_location("docs_pictures_draw", PICTURES / "draw.py")
assert SPEC
assert SPEC.loader
draw = importlib.util.module_from_spec(SPEC)
sys.modules[SPEC.name] = draw
SPEC.loader.exec_module(draw)


def boxes(name: str) -> list[tuple[str, int, str]]:
    """Name, row and text of each box."""
    text = (PICTURES / name).read_text(encoding="utf-8")
    found = re.findall(r"^(?:outside|process|store) +(\w+) +\d+ +(\d+) +(.*)$", text, re.MULTILINE)
    return [(box, int(row), label.replace(" | ", " ")) for box, row, label in found]


@pytest.mark.parametrize("path", sorted(PICTURES.glob("*.txt")), ids=lambda path: path.name)
def test_picture_is_drawn_from_its_text(path: Path) -> None:
    drawn = draw.draw(path.read_text(encoding="utf-8"))
    assert path.with_suffix(".svg").read_text(encoding="utf-8") == drawn, "python docs/pictures/draw.py"


def test_the_layers_are_those_of_the_import_contract() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = project["tool"]["importlinter"]["contracts"]
    (contract,) = [one for one in contracts if one.get("containers") == ["pylantir"]]
    rows = {name: row for _, row, label in boxes("layers.txt") for name in re.findall(r"\w+", label)}
    levels = {name: level for level, layer in enumerate(contract["layers"]) for name in re.findall(r"\w+", layer)}
    assert levels.keys() == rows.keys() - {"workers", "the", "processes"}
    for name, level in levels.items():
        for other, below in levels.items():
            assert level >= below or rows[name] <= rows[other], f"{name} imports {other}"


def test_the_processes_are_those_that_ps_shows() -> None:
    shown = {label.split(":")[1].split()[0] for _, _, label in boxes("processes.txt") if label.startswith("pylantir:")}
    folders = {path.name for path in (REPOSITORY / "workers").iterdir() if path.is_dir() and path.name[0] != "_"}
    assert shown == {name.replace("server", "mwl-scp") for name in folders} - {"supervisor", "child", "commands"}
