"""The sources of docs/howto/several-sites.md keep the patients of two sites apart who have the same numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pages import REPOSITORY, read_blocks
from sqlalchemy import Engine
from worklist_store import Feed, items, quarantine

from pylantir.cli.main import main
from pylantir.store.read.conflicts import find_conflicts

PAGE = (REPOSITORY / "docs/howto/several-sites.md").read_text(encoding="utf-8")


def test_two_sites_with_the_same_numbers_get_their_patients(
    store: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sources = [json.loads(block.text) for block in read_blocks(PAGE) if block.language == "json"]
    assert [source["name"] for source in sources] == ["site_a", "site_b"]
    (tmp_path / "pylantir.json").write_text(json.dumps({"data_sources": sources}), encoding="utf-8")
    for source in sources:
        (tmp_path / f"{source['name']}.csv").write_text("id,date\n100,2030-07-01\n", encoding="utf-8")
        assert main(["preview", source["name"], "--config", str(tmp_path / "pylantir.json"), "--json"]) == 0
        (entry,) = json.loads(capsys.readouterr().out)["entries"]
        Feed(store, source["name"]).sync((f"step:{source['name']}", entry["fields"]))
    assert [(one["patient_id"], one["issuer_of_patient_id"]) for one in items(store)] == [
        ("100", "SITE_A"), ("B-100", None),
    ]  # fmt: skip
    assert quarantine(store) == {}
    with store.connect() as connection:
        assert list(find_conflicts(connection)) == []
