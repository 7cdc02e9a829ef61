"""The page about mapping fields: each export on it becomes the worklist that stands beside it."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pylantir.columns import without_left_out
from pylantir.config.loading import load_settings
from pylantir.data_sources.registry import discover, load_source
from pylantir.errors import RecordRejected
from pylantir.mapping import EntryMapper

PAGE = (Path(__file__).parents[2] / "docs/howto/map-fields.md").read_text(encoding="utf-8")
_CASE = re.compile(
    r"^## [0-9]+\. (?P<title>[^\n]*)\n.*?^`(?P<file>[^`\n]+)`:\n\n```\w+ export\n(?P<export>.*?)```\n"
    r".*?^```json source\n(?P<source>.*?)```\n.*?^```json worklist\n(?P<worklist>.*?)```\n",
    re.DOTALL | re.MULTILINE,
)


class Case(NamedTuple):
    title: str
    file: str
    export: str
    source: dict[str, Any]
    worklist: list[dict[str, str]]


CASES = [
    Case(found["title"], found["file"], found["export"], json.loads(found["source"]), json.loads(found["worklist"]))
    for found in _CASE.finditer(PAGE)
]


def becomes(folder: Path, case: Case) -> tuple[list[dict[str, str]], Counter[tuple[str, str]]]:
    """Fetch the export as its source's process would; returns the entries, or why a record is refused."""
    (folder / case.file).write_text(case.export, encoding="utf-8")
    # A file that was written just now may still be being written.
    os.utime(folder / case.file, (0, 0))
    (folder / "pylantir.json").write_text(json.dumps({"data_sources": [case.source]}), encoding="utf-8")
    (source,) = load_settings(folder / "pylantir.json", discover=discover, environ={}).sources
    plugin = load_source(source)
    assert plugin.validate_config(dict(source.config)) == (True, "")
    mapper, entries, warned = EntryMapper.of_source(source), [], Counter[tuple[str, str]]()
    for record in without_left_out(plugin.fetch_entries(dict(source.field_mapping), 0.0)):
        assert isinstance(record, dict)
        try:
            entries.append(dict(mapper.to_entry(record, warned).fields))
        except RecordRejected as error:
            entries.append({"refused": error.field, "reason": error.reason})
    return entries, warned


def test_the_page_has_twenty_exports() -> None:
    assert len(CASES) == len(re.findall(r"^## ", PAGE, re.MULTILINE)) == 20


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_an_export_becomes_the_worklist_beside_it(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    entries, warned = becomes(tmp_path, case)
    assert entries == case.worklist
    assert bool(warned) == ("wrong" in case.title)
