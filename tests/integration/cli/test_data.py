"""The commands of `pylantir` that read the database and the sources, on real files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from old_installation import make_old_database
from sqlalchemy import insert

from pylantir.cli.main import main
from pylantir.errors import ExitStatus
from pylantir.store.schema.engine import open_for_writing
from pylantir.store.schema.tables import audit_log, rejected_entries, source_entries, worklist_items
from pylantir.store.schema.upgrade import prepare_database
from workers.supervisor.check import check_configuration

MORNING = "2026-08-03T06:00:00.000000+00:00"
NOON = "2026-08-03T12:00:00.000000+00:00"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a configuration whose source needs a variable that is not set."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYLANTIR_CONFIG", raising=False)
    source = {"name": "clinic", "type": "csv", "config": {"file_path": "a.csv", "password_env": "CLINIC_PASSWORD"}}
    write_configuration(tmp_path, [source])
    return tmp_path


def write_configuration(folder: Path, sources: list[dict[str, Any]]) -> None:
    document = {"db_path": "worklist.db", "runtime_dir": "run", "data_sources": sources}
    (folder / "pylantir.json").write_text(json.dumps(document), encoding="utf-8")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run_command(*arguments: str) -> tuple[int, str, str]:
        status = main(arguments)
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run_command


@pytest.fixture
def stored(folder: Path) -> Path:
    """Three items, of which two sources give the first, and one is cancelled."""
    engine = open_for_writing(f"sqlite:///{folder / 'worklist.db'}")
    prepare_database(engine)
    common = {"scheduled_start_date": "20260803", "scheduled_start_time": "093000", "modality": "MR"}
    items = [
        {"id": 1, "patient_id": "P1", "data_source": "booking", "performed_procedure_step_status": "SCHEDULED"},
        {"id": 2, "patient_id": "P2", "data_source": "clinic", "performed_procedure_step_status": "CANCELED"},
        {"id": 3, "patient_id": "Q3", "data_source": "old", "performed_procedure_step_status": "IN_PROGRESS"},
    ]
    claims = [
        ("clinic", "id:1", "live", 1, MORNING),
        ("booking", "id:7", "live", 1, NOON),
        ("x", "y", "withdrawn", 1, MORNING),
    ]
    with engine.begin() as connection:
        connection.execute(insert(worklist_items), [{**common, **item} for item in items])
        for source, key, state, item_id, since in claims:
            row = {"data_source": source, "record_key": key, "state": state, "item_id": item_id}
            row |= {"digest": "", "fields": "{}", "patient_id": "P1", "first_seen_at": since, "changed_at": since}
            connection.execute(insert(source_entries), row)
        rejected = {"record_key": "row 7", "field": "patient_id", "reason": "missing", "times_seen": 2}
        for source in ("booking", "clinic"):
            row = {**rejected, "data_source": source, "first_seen_at": MORNING, "last_seen_at": NOON}
            connection.execute(insert(rejected_entries), row)
        for at, actor, patient, item_id in ((MORNING, "source:clinic", "P1", 1), (NOON, "scanner:MRI", "Q3", 3)):
            row = {"at": at, "actor": actor, "action": "changed", "patient_id": patient, "item_id": item_id}
            connection.execute(
                insert(audit_log), {**row, "changes": json.dumps({"modality": ["CT", "MR"], "why": "x"})}
            )
    engine.dispose()
    return folder


def test_worklist_says_who_gives_each_item_since_when_the_owner_first(stored: Path, run: Run) -> None:
    status, out, err = run("query-db", "--json")
    assert (status, err) == (0, "")
    first, third = json.loads(out)
    assert (first["id"], third["id"]) == (1, 3)
    assert first["sources"] == [
        {"source": "booking", "record": "id:7", "since": NOON},
        {"source": "clinic", "record": "id:1", "since": MORNING},
    ]
    assert third["sources"] == [{"source": "old", "record": None, "since": None}]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (["--all"], [1, 2, 3]),
        (["--status", "canceled"], [2]),
        (["--patient", "P*", "--all"], [1, 2]),
        (["--patient", "Q3"], [3]),
        (["--source", "clinic"], [1]),
        (["--source", "x"], []),
        (["--date", "2026-08-03"], [1, 3]),
        (["--date", "2026-08-04.."], []),
        (["--modality", "CT"], []),
    ],
)
def test_worklist_can_be_narrowed(stored: Path, run: Run, filters: list[str], expected: list[int]) -> None:
    assert [item["id"] for item in json.loads(run("query-db", "--json", *filters)[1])] == expected


def test_worklist_is_a_table_for_people(stored: Path, run: Run) -> None:
    _, out, _ = run("query-db", "--patient", "P1")
    heading, row = out.splitlines()
    assert heading.split()[:3] == ["ITEM", "DATE", "TIME"]
    assert row.split()[:4] == ["1", "2026-08-03", "09:30", "P1"]
    assert row.index("booking") < row.index("clinic")
    assert run("query-db", "--patient", "nobody") == (0, "", "no items\n")


def test_rejects_are_listed_by_source(stored: Path, run: Run) -> None:
    rows = json.loads(run("rejects", "--json")[1])
    assert [(row["data_source"], row["field"], row["times_seen"]) for row in rows] == [
        ("booking", "patient_id", 2),
        ("clinic", "patient_id", 2),
    ]
    _, out, _ = run("rejects", "--source", "clinic")
    assert "booking" not in out
    assert "row 7" in out


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ([], [1, 3]),
        (["--patient", "P1"], [1]),
        (["--source", "clinic"], [1]),
        (["--entry", "3"], [3]),
        (["--since", "2026-08-03T10:00+00:00"], [3]),
        (["--since", "2026-08-03T10:00+00:00", "--patient", "P1"], []),
    ],
)
def test_audit_tells_who_did_what(stored: Path, run: Run, conditions: list[str], expected: list[int]) -> None:
    rows = json.loads(run("audit", "--json", *conditions)[1])
    assert [row["item_id"] for row in rows] == expected
    assert all(row["changes"]["modality"] == ["CT", "MR"] for row in rows)


def test_audit_is_a_table_for_people(stored: Path, run: Run) -> None:
    assert "modality: CT → MR; why: x" in run("audit", "--entry", "1")[1]


def test_nothing_is_written_by_reading(stored: Path, run: Run) -> None:
    before = (stored / "worklist.db").read_bytes()
    for command in ("query-db", "rejects", "audit"):
        assert run(command)[0] == 0
    assert (stored / "worklist.db").read_bytes() == before


def test_absent_database_is_named_and_not_made(folder: Path, run: Run) -> None:
    status, out, err = run("query-db")
    assert (status, out) == (1, "")
    assert f"{folder}/worklist.db: no database yet" in err
    assert not (folder / "worklist.db").exists()


def test_file_that_is_no_database_is_an_error_in_one_line(folder: Path, run: Run) -> None:
    (folder / "worklist.db").write_text("no database at all, but long enough to be looked at" * 40)
    status, _, err = run("query-db")
    assert status == 1
    assert len(err.splitlines()) == 1


def test_invalid_configuration_ends_every_command_that_needs_it(folder: Path, run: Run) -> None:
    (folder / "pylantir.json").write_text('{"dicom": {"port": "x"}, "log": {"level": 7}, "data_sources": []}')
    for command in (["query-db"], ["rejects"], ["audit"], ["plugins"], ["test-client"], ["preview", "clinic"]):
        status, out, err = run(*command)
        assert (status, out) == (ExitStatus.CONFIGURATION, "")
        assert "dicom.port" in err
        assert "log.level" in err


def test_plugins_are_listed_with_their_origin_or_the_reason_why_not(folder: Path, run: Run) -> None:
    plugins = folder / "plugins"
    plugins.mkdir()
    base = "from pylantir.data_sources.base import DataSourcePlugin\n"
    (plugins / "booking.py").write_text(f"{base}raise SystemExit\nclass Booking(DataSourcePlugin): ...\n")
    (plugins / "broken.py").write_text("def (:\n")
    listed = json.loads(run("plugins", "--json")[1])
    types = {one["type"]: one for one in listed["types"]}
    assert types["booking"]["origin"] == str(plugins / "booking.py")
    assert types["csv"]["builtin"] is True
    assert [problem["path"] for problem in listed["problems"]] == [str(plugins / "broken.py")]
    assert "line 1" in run("plugins")[1]


def test_schema_is_json(run: Run) -> None:
    assert "data_sources" in json.loads(run("schema")[1])["properties"]


def use_plugin(folder: Path, body: str) -> None:
    """Configure one source whose plugin's `fetch_entries` has this body."""
    (folder / "plugins").mkdir()
    (folder / "plugins" / "booking.py").write_text(
        "from pylantir.data_sources.base import BadRecord, DataSourcePlugin\n"
        "class Booking(DataSourcePlugin):\n"
        "    def validate_config(self, config): return config.get('ok', True), 'ok has to be true'\n"
        "    def get_source_name(self): return 'booking'\n"
        "    def cleanup(self): open('cleaned', 'w').close()\n"
        "    def fetch_entries(self, field_mapping, interval):\n" + textwrap.indent(textwrap.dedent(body), " " * 8)
    )
    write_configuration(folder, [{"name": "booking", "type": "booking"}])


GOOD = "{'patient_id': f'P{number}', 'scheduled_start_date': '2026-08-03', 'modality': 'MR'}"


def test_preview_shows_mapped_and_rejected_records_and_writes_nothing(folder: Path, run: Run) -> None:
    use_plugin(
        folder,
        f"""
        print("chatter")
        for number in range(12):
            yield {GOOD}
        yield {{'patient_id': 'P99'}}
        yield BadRecord(record='row 14', field='patient_sex', reason='unreadable')
        yield 7
        """,
    )
    status, out, err = run("preview", "booking", "--json")
    found = json.loads(out)
    assert status == 0
    assert err == "(the plugin printed 1 lines; the log level DEBUG shows them)\n"
    assert (found["fetched"], len(found["entries"]), found["error"]) == (15, 12, None)
    assert found["entries"][0]["given"]["scheduled_start_date"] == "2026-08-03"
    assert found["entries"][0]["fields"]["scheduled_start_date"] == "20260803"
    assert [(one["record"], one["field"]) for one in found["rejected"]] == [
        ("record 13", "scheduled_start_date"),
        ("row 14", "patient_sex"),
        ("record 15", ""),
    ]
    assert (folder / "cleaned").exists()
    assert not (folder / "worklist.db").exists()
    _, out, err = run("preview", "booking")
    assert "P9" in out
    assert "P10" not in out
    assert "unreadable" in out
    assert "15 fetched, 12 mapped (the first 10 are shown; see --limit, --json), 3 rejected" in err


def test_preview_fails_as_the_sync_does_where_no_record_can_be_used(folder: Path, run: Run) -> None:
    use_plugin(folder, "yield {'patient_id': '#REF!'}\nyield {'patient_id': 'P2'}\n")
    status, out, _ = run("preview", "booking", "--json")
    assert status == 1
    assert "none of the 2 records" in json.loads(out)["error"]


def test_preview_stops_at_its_limit(folder: Path, run: Run) -> None:
    use_plugin(folder, f"number = 0\nwhile True:\n    number += 1\n    yield {GOOD}\n")
    found = json.loads(run("preview", "booking", "--json", "--limit", "3")[1])
    assert [entry["given"]["patient_id"] for entry in found["entries"]] == ["P1", "P2", "P3"]


@pytest.mark.parametrize("failure", ["raise ValueError('no')", "raise SystemExit(0)", "import no_such_module"])
def test_preview_of_a_failing_plugin_shows_what_came_and_the_traceback(folder: Path, run: Run, failure: str) -> None:
    use_plugin(folder, f"number = 1\nyield {GOOD}\n{failure}\n")
    status, out, err = run("preview", "booking")
    assert status == 1
    assert "P1" in out
    assert "booking.py" in err
    assert "Traceback" in err


def test_preview_tells_a_refused_config_from_a_failure(folder: Path, run: Run) -> None:
    use_plugin(folder, "return []")
    write_configuration(folder, [{"name": "booking", "type": "booking", "config": {"ok": False}}])
    status, _, err = run("preview", "booking")
    assert status == ExitStatus.CONFIGURATION
    assert "ok has to be true" in err


def test_preview_of_a_source_that_is_not_configured_names_the_near_one(folder: Path, run: Run) -> None:
    use_plugin(folder, "return []")
    status, out, err = run("preview", "bookin")
    assert (status, out) == (2, "")
    assert 'did you mean "booking"?' in err


def test_starter_configuration_is_valid_as_it_stands_and_nothing_is_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("init", "site.json")[0] == 0
    checked = check_configuration(tmp_path / "site.json", {}, {})
    assert checked.problems == ()
    assert checked.settings is not None
    assert checked.settings.warnings == ()
    assert checked.settings.dicom.host == "127.0.0.1"
    status, out, err = run("preview", "bookings", "--config", "site.json", "--json")
    assert (status, err) == (0, "")
    assert [entry["fields"]["patient_id"] for entry in json.loads(out)["entries"]] == ["EXAMPLE-1", "EXAMPLE-2"]
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    status, _, err = run("init", "site.json")
    assert status == 1
    assert "not overwritten" in err
    assert run("init", "other.json")[0] == 1  # the sample beside it exists
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_old_configuration_is_converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DB_PATH", raising=False)
    old = {"site": "792", "db_path": "data/w.db", "redcap2wl": {"dob": "patient_birth_date"}, "protocol": {"792": "B"}}
    (tmp_path / "old.json").write_text(json.dumps(old))
    status, out, _ = run("init", "--from", "old.json")
    assert (status, out.splitlines()[0]) == (0, "written: pylantir.json")
    assert json.loads((tmp_path / "pylantir.json").read_text())["data_sources"][0]["name"] == "redcap_legacy"
    assert run("init", "--from", "old.json")[0] == 1  # nothing is overwritten
    (tmp_path / "etc").mkdir()
    assert run("init", "--from", "old.json", "etc/new.json")[0] == 0
    variables = f"REDCAP_API_URL=https://redcap.example/api/\nREDCAP_API_TOKEN={'A' * 32}\n"
    (tmp_path / "etc" / ".env").write_text(variables)
    checked = check_configuration(tmp_path / "etc" / "new.json", {}, {})
    assert checked.problems == ()
    assert checked.settings is not None
    assert checked.settings.db_url.endswith(f"{tmp_path}/data/w.db")
    assert checked.settings.sources[0].field_mapping == {"dob": "patient_birth_date"}
    assert run("init", "--from", "etc/new.json")[0] == 1
    assert run("init", "--from", "old.json", "etc/new.json")[0] == 1


def test_mappings_of_public_versions_are_converted_with_a_word_for_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    monkeypatch.chdir(tmp_path)
    mapping = {"study_id": "study_id", "session_id": "mri_instance", "scheduled_date": "mri_date"}
    sources = [
        {"name": "cap", "type": "redcap", "field_mapping": mapping},
        {"name": "list", "type": "csv", "config": {"file_path": "in/a.csv"}, "field_mapping": {"a": "patient_id"}},
    ]
    (tmp_path / "public.json").write_text(json.dumps({"db_path": "w.db", "data_sources": sources}))
    (tmp_path / "etc").mkdir()
    status, _, err = run("init", "--from", "public.json", "etc/new.json")
    assert status == 0
    assert '"session_id": "mri_instance" is understood as "mri_instance": "session_id"' in err
    written = json.loads((tmp_path / "etc/new.json").read_text())
    assert written["data_sources"][0]["field_mapping"] == {
        "study_id": "study_id", "mri_instance": "session_id", "mri_date": "scheduled_start_date",
    }  # fmt: skip
    assert written["db_path"] == str(tmp_path / "w.db")
    assert written["data_sources"][1]["config"]["file_path"] == str(tmp_path / "in/a.csv")
    assert run("init", "--from", "etc/new.json", "again.json")[0] == 1  # nothing is left to convert


def run_program(*arguments: str, **settings: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pylantir.cli.main", *arguments]
    return subprocess.Popen(command, text=True, stderr=subprocess.PIPE, **settings)


def test_start_becomes_the_supervisor(folder: Path) -> None:
    (folder / "pylantir.json").write_text("{}")
    started = run_program("start", "--port", "104", stdout=subprocess.DEVNULL, cwd=folder, env=dict(os.environ))
    _, err = started.communicate(timeout=60)
    assert started.returncode == ExitStatus.CONFIGURATION
    assert "nothing was started" in err


def test_reader_that_goes_away_is_no_error_message() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    started = run_program("schema", stdout=writer)
    os.close(writer)
    _, err = started.communicate(timeout=60)
    assert (started.returncode, err) == (ExitStatus.FAILURE, "")


def test_a_thread_that_a_plugin_forgets_does_not_keep_the_preview(folder: Path) -> None:
    use_plugin(
        folder,
        f"""
        import threading
        threading.Thread(target=threading.Event().wait).start()
        number = 1
        yield {GOOD}
        """,
    )
    command = [sys.executable, "-m", "pylantir", "preview", "booking", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=60, check=False)
    assert (done.returncode, json.loads(done.stdout)["fetched"]) == (0, 1)


@pytest.mark.parametrize("version", ["0.2", "0.4"])
@pytest.mark.parametrize("command", ["query-db", "rejects", "audit", "conflicts"])
def test_a_database_of_an_earlier_version_is_named_as_such(folder: Path, run: Run, version: str, command: str) -> None:
    make_old_database(folder / "worklist.db", version)
    status, out, err = run(command)
    assert (status, out) == (1, "")
    assert "is a database of an earlier version; `pylantir-supervisor start` completes it" in err


def test_warnings_of_a_source_that_does_not_exist_are_a_wrong_use(stored: Path, run: Run) -> None:
    status, out, err = run("rejects", "--warnings", "--source", "clinik")
    assert (status, out) == (ExitStatus.USAGE, "")
    assert 'did you mean "clinic"?' in err


@pytest.mark.parametrize("days", ["2026-08-01..2026-08-31", "..today", "today.."])
def test_purge_takes_one_day(folder: Path, run: Run, days: str) -> None:
    status, out, err = run("purge", "--before", days, "--dry-run")
    assert (status, out) == (ExitStatus.USAGE, "")
    assert "expected one day" in err
