"""`pylantir preview`, `plugins`, `schema` and `init --from`: looking before anything is started."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from old_installation import CONFIGURATION, METADATA, participant
from redcap_server import TOKEN, RedcapServer, base_row, mri_row

REPOSITORY = Path(__file__).parents[3]
PYLANTIR = Path(sys.executable).with_name("pylantir")


@pytest.fixture
def redcap() -> Iterator[RedcapServer]:
    with RedcapServer(METADATA) as server:
        server.put(*participant(101, date="2030-01-30", time="10:15", mri_operator="Curie^Marie"))
        server.put(*participant(102, date="30.01.2030", time="10:15"))
        server.put(
            base_row("103", study_id="CPIP-"),
            mri_row("103", 1, mri_instance="1", mri_date="2030-01-30", mri_time="8:00"),
        )
        yield server


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("REDCAP_", "PYLANTIR_"))}
    return subprocess.run(
        [PYLANTIR, *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**environ, "HOME": str(folder), **environment},
        timeout=60,
        check=False,
    )


def write(folder: Path, document: object) -> Path:
    path = folder / "pylantir.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def csv_document(**changes: Any) -> dict[str, Any]:
    mapping = {"Nr": "patient_id", "Tag": "scheduled_start_date"}
    source = {"name": "bookings", "type": "csv", "config": {"file_path": "a.csv"}, "field_mapping": mapping}
    return {"data_sources": [{**source, **changes}]}


def test_preview_of_redcap_shows_what_would_be_served_and_what_is_refused(redcap: RedcapServer, tmp_path: Path) -> None:
    write(tmp_path, CONFIGURATION)
    before = set(tmp_path.iterdir())
    secrets = {"REDCAP_API_URL": redcap.url, "REDCAP_API_TOKEN": TOKEN}
    shown = run(tmp_path, "preview", "redcap_legacy", **secrets)
    assert shown.returncode == 0, shown.stderr
    lines = [re.split(r" {2,}", line.strip()) for line in shown.stdout.splitlines()]
    assert ["mri_operator", "Curie^Marie", "performing_physician", "Curie^Marie"] in lines
    assert ["mri_date", "2030-01-30", "scheduled_start_date", "20300130"] in lines
    assert "study_id + mri_instance + family_id  sub_101_ses_1_fam_7_site_792  patient_id" in shown.stdout
    assert re.search(r"record 102:mri#1 +scheduled_start_date +.*date", shown.stdout)
    assert re.search(r"record 103:mri#1 +study_id +nothing follows the last hyphen", shown.stdout)
    assert "3 fetched, 1 mapped, 2 rejected; nothing is written" in shown.stderr
    assert set(tmp_path.iterdir()) == before

    found = json.loads(run(tmp_path, "preview", "redcap_legacy", "--json", **secrets).stdout)
    (entry,) = found["entries"]
    assert entry["given"]["scheduled_start_time"] == "10:15"
    assert entry["fields"]["scheduled_start_time"] == "101500"
    assert [one["field"] for one in found["rejected"]] == ["scheduled_start_date", "study_id"]


def test_preview_of_a_source_that_is_down_says_so(redcap: RedcapServer, tmp_path: Path) -> None:
    write(tmp_path, CONFIGURATION)
    shown = run(tmp_path, "preview", "redcap_legacy", REDCAP_API_URL=redcap.url, REDCAP_API_TOKEN="F" * 32)
    assert shown.returncode == 1
    assert "refuses the token in REDCAP_API_TOKEN" in shown.stderr
    assert "F" * 32 not in shown.stdout + shown.stderr


def test_preview_of_an_unknown_source_names_those_that_exist(tmp_path: Path) -> None:
    write(tmp_path, csv_document())
    shown = run(tmp_path, "preview", "booking")
    assert shown.returncode == 2
    assert 'did you mean "bookings"?' in shown.stderr


def test_preview_shows_defaults_and_stops_at_its_limit(tmp_path: Path) -> None:
    write(tmp_path, csv_document(defaults={"modality": "CT"}))
    (tmp_path / "a.csv").write_text("Nr,Tag\nP1,2030-01-30\nP2,2030-01-31\n")
    shown = run(tmp_path, "preview", "bookings", "--limit", "1")
    lines = [re.split(r" {2,}", line.strip()) for line in shown.stdout.splitlines()]
    assert ["(default)", "modality", "CT"] in lines
    assert ["Tag", "2030-01-30", "scheduled_start_date", "20300130"] in lines
    assert "P2" not in shown.stdout


def test_preview_tells_on_a_terminal_how_far_a_long_fetch_is(tmp_path: Path) -> None:
    write(tmp_path, {"data_sources": [{"name": "slow", "type": "slow", "defaults": {"modality": "MR"}}]})
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "slow.py").write_text(
        "import time\n"
        "from pylantir.data_sources.base import DataSourcePlugin\n"
        "class Slow(DataSourcePlugin):\n"
        "    def validate_config(self, config): return True, ''\n"
        "    def get_source_name(self): return 'slow'\n"
        "    def fetch_entries(self, field_mapping, interval):\n"
        "        for number in range(300):\n"
        "            time.sleep(0.002)\n"
        "            yield {'patient_id': f'P{number}', 'scheduled_start_date': '2030-01-30'}\n"
    )
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [PYLANTIR, "preview", "slow"],
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        cwd=tmp_path,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80"},
    ):
        os.close(theirs)
        told = b""
        try:
            while more := os.read(ours, 4096):
                told += more
        except OSError:  # the other end is closed
            pass
    os.close(ours)
    assert b"fetching from slow" in told
    assert re.search(rb"fetching from slow: [12]00 records", told)


def test_plugins_lists_each_type_with_its_file_or_why_a_file_offers_none(tmp_path: Path) -> None:
    write(tmp_path, csv_document())
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "clinic.py").write_bytes((REPOSITORY / "etc/examples/plugins/icalendar_file.py").read_bytes())
    (folder / "broken.py").write_text("def (\n")
    (folder / "empty.py").write_text("x = 1\n")
    shown = run(tmp_path, "plugins", "--json")
    listed = json.loads(shown.stdout)
    types = {one["type"]: one for one in listed["types"]}
    assert {"csv", "json", "redcap", "sql"} < types.keys()
    assert str(folder) in next(one["origin"] for one in types.values() if not one["builtin"])
    assert {Path(one["path"]).name for one in listed["problems"]} == {"broken.py", "empty.py"}
    assert all(one["reason"] for one in listed["problems"])


def example_configurations() -> Iterator[Any]:
    for path in sorted((REPOSITORY / "etc").rglob("*.json")):
        if "data_sources" in path.read_text(encoding="utf-8"):
            yield pytest.param(json.loads(path.read_text(encoding="utf-8")), id=path.name)
    for page in sorted((REPOSITORY / "docs").rglob("*.md")):
        for number, text in enumerate(
            re.findall(r"^```json\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
        ):
            if "…" not in text and text.startswith("{"):  # not a part of one
                document = json.loads(text)
                if "field_mapping" in document or "type" in document:
                    document = {"data_sources": [document]}
                if "data_sources" in document:
                    yield pytest.param(document, id=f"{page.stem} {number}")


@pytest.mark.parametrize("document", list(example_configurations()))
def test_schema_accepts_the_examples(schema: dict[str, Any], document: dict[str, Any]) -> None:
    jsonschema.validate({"$schema": "pylantir.schema.json", **document}, schema)


@pytest.mark.parametrize(
    "wrong",
    [
        csv_document(sync_interval="5m"),
        csv_document(field_maping={}),
        csv_document(missing_entries="delete"),
        {"data_sources": [{"type": "csv"}]},
        {**csv_document(), "dicom": {"port": 70000}},
    ],
)
def test_schema_refuses_what_the_check_refuses(schema: dict[str, Any], wrong: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, schema)


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    printed = json.loads(run(tmp_path_factory.mktemp("schema"), "schema").stdout)
    jsonschema.Draft202012Validator.check_schema(printed)
    return dict(printed)


def test_file_may_name_its_schema(tmp_path: Path) -> None:
    path = write(tmp_path, {"$schema": "pylantir.schema.json", **csv_document(defaults={"modality": "MR"})})
    checked = check(path)
    assert checked.returncode == 0, checked.stderr
    assert "schema" not in checked.stderr


def test_converted_configuration_passes_the_check(tmp_path: Path) -> None:
    old = write(tmp_path, {**CONFIGURATION, "users_db_path": "users.db"})
    converted = run(tmp_path, "init", "new.json", "--from", str(old))
    assert converted.returncode == 0, converted.stderr
    document = json.loads((tmp_path / "new.json").read_text())
    assert [source["name"] for source in document["data_sources"]] == ["redcap_legacy"]
    assert not document.keys() & {"redcap2wl", "users_db_path"}
    checked = check(tmp_path / "new.json", REDCAP_API_URL="https://redcap.example/api/", REDCAP_API_TOKEN=TOKEN)
    assert checked.returncode == 0, checked.stderr
    assert "new form" not in checked.stderr
    assert TOKEN not in converted.stdout + checked.stderr + (tmp_path / "new.json").read_text()


def check(path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [PYLANTIR.with_name("pylantir-supervisor"), "check", "--config", path]
    environ = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, env=environ, timeout=60, check=False)
