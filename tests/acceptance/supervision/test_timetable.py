"""When sources are asked: from start to start, inside their window, and at once when a watched file changes."""

from __future__ import annotations

import datetime
import json
import os
import re
import signal

from installation import Installation, csv_source, plugin_source, wait_until

DESIGNED = {
    "db_path": "worklist.db",
    "runtime_dir": "run",
    "dicom": {"ae_title": "PYLANTIR", "host": "0.0.0.0", "port": 4242},
    "allowed_aet": ["MRI_SCANNER"],
    "plugin_dirs": ["plugins"],
    "data_sources": [
        {
            "name": "site_a_redcap",
            "type": "redcap",
            "enabled": False,
            "sync_interval": 60,
            "operation_interval": {"start_time": [0, 0], "end_time": [23, 59]},
            "config": {
                "api_url_env": "REDCAP_API_URL",
                "api_token_env": "REDCAP_API_TOKEN",
                "site_id": "792",
                "protocol": {"792": "BRAIN_MRI_3T"},
            },
            "field_mapping": {
                "study_id": "study_id",
                "mri_instance": "session_id",
                "youth_dob_y": "patient_birth_date",
                "demo_sex": "patient_sex",
            },
        },
        {
            "name": "site_b_csv",
            "type": "csv",
            "sync_interval": 300,
            "config": {"file_path": "imports/site_b.csv", "watch_for_changes": True},
            "field_mapping": {
                "patient_id": "patient_id",
                "dob": "patient_birth_date",
                "sex": "patient_sex",
                "scan_date": "scheduled_start_date",
            },
            "defaults": {"modality": "MR"},
        },
    ],
}


def test_the_designed_configuration_works_and_a_changed_file_is_seen_at_once(
    installation: Installation, findscu: str
) -> None:
    installation.config_path.write_text(json.dumps(DESIGNED), encoding="utf-8")
    (installation.folder / "plugins").mkdir()
    (installation.folder / "imports").mkdir()
    table = installation.folder / "imports" / "site_b.csv"
    table.write_text("patient_id,dob,sex,scan_date\nP1,1961-02-03,F,2030-01-01\n", encoding="utf-8")
    installation.start("--port", str(installation.port), "--ip", "127.0.0.1")
    keys = ("PatientID", "PatientBirthDate", "PatientSex", "ScheduledProcedureStepSequence[0].Modality")
    (answer,) = installation.find(findscu, *keys)
    assert answer["PatientID"] == "P1"
    assert answer["PatientBirthDate"] == "19610203"
    assert answer["Modality"] == "MR"

    draft = table.with_suffix(".new")
    draft.write_text(table.read_text(encoding="utf-8") + "P2,1961-02-03,F,2030-01-01\n", encoding="utf-8")
    draft.replace(table)
    # Its interval is five minutes.
    wait_until(lambda: len(installation.find(findscu)) == 2, "the new row at the scanner")
    assert installation.terminate() == 0


def test_cycles_run_from_start_to_start(installation: Installation) -> None:
    installation.write_csv("a.csv", ["P1"])
    installation.write_plugin("slow", fetch="time.sleep(0.4)")
    slow = {"name": "slow", "type": "slow", "sync_interval": 1, "defaults": {"modality": "MR"}}
    installation.configure(csv_source("a", "a.csv"), slow)
    installation.start()

    def starts() -> list[float]:
        return [datetime.datetime.fromisoformat(moment).timestamp() for moment in installation.runs("slow")[-5:]]

    def are_on_a_grid() -> bool:
        phases = [(start - last[0] + 0.5) % 1.0 - 0.5 for last in [starts()] for start in last]
        return len(phases) == 5 and max(phases) - min(phases) < 0.2

    # How long a fetch takes shifts nothing. A busy machine may skip a point or be late at one.
    wait_until(are_on_a_grid, lambda: f"five cycles on a grid: {starts()}")


def test_outside_its_window_a_source_is_left_alone_until_somebody_asks(installation: Installation) -> None:
    now = datetime.datetime.now().astimezone()
    opens = now + datetime.timedelta(hours=2)
    window = {"start_time": [opens.hour, opens.minute], "end_time": [(opens.hour + 1) % 24, opens.minute]}
    installation.write_csv("a.csv", ["P1"])
    installation.write_csv("b.csv", ["P2"])
    installation.configure(csv_source("a", "a.csv"), csv_source("b", "b.csv", operation_interval=window))
    installation.start(until=None)
    wait_until(lambda: installation.process("b").get("ready"), "the closed source is ready")
    wait_until(lambda: len(installation.runs("a")) >= 3, "the open source syncs")
    assert installation.runs("b") == []
    assert installation.command("sync", "b").returncode == 0
    wait_until(lambda: installation.runs("b"), "the cycle that was asked for")
    next_sync = datetime.datetime.fromisoformat(
        wait_until(lambda: installation.process("b").get("next_sync"), "when it opens")
    )
    assert abs(next_sync.timestamp() - opens.replace(second=0, microsecond=0).timestamp()) < 120


def test_json_lines_are_one_object_per_event(installation: Installation) -> None:
    installation.write_csv("a.csv", ["P1"])
    installation.write_plugin("bad", fetch="raise ValueError('gone')")
    bad = {"name": "bad", "type": "bad", "sync_interval": 1, "defaults": {"modality": "MR"}}
    installation.configure(csv_source("a", "a.csv"), bad, log={"format": "json"})
    installation.start(until="degraded")
    installation.wait_for_log("cycle done")
    installation.wait_for_log("ValueError")
    assert installation.terminate() == 0
    events = [json.loads(line) for line in installation.log().splitlines()]
    assert {"supervisor", "writer", "source"} <= {event["process"] for event in events}
    assert {event["source"] for event in events if event["process"] == "source"} == {"a", "bad"}
    assert any("ValueError" in event["message"] for event in events)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", event["time"]) for event in events)


def test_a_fetch_that_spans_two_writers_is_followed_by_a_whole_one_at_once(installation: Installation) -> None:
    path = installation.folder / "plugins" / "slow.py"
    path.parent.mkdir()
    path.write_text(SLOW, encoding="utf-8")
    installation.configure({**plugin_source("slow"), "sync_interval": 3600})
    installation.start()
    wait_until(lambda: len(installation.patients()) == 60, "the entries")
    (installation.folder / "pause").touch()
    assert installation.command("sync", "slow").returncode == 0
    wait_until((installation.folder / "pausing").exists, "the second fetch is on its way")
    pid = installation.process("writer")["pid"]
    os.kill(pid, signal.SIGKILL)
    installation.wait_for_successor("writer", pid)
    (installation.folder / "pause").unlink()
    runs = "select complete from sync_runs order by id"
    wait_until(lambda: len(installation.rows(runs)) == 3, "the third fetch follows by itself")
    assert installation.rows(runs) == [(1,), (0,), (1,)]
    assert len(installation.patients()) == 60
    assert installation.terminate() == 0


SLOW = """\
import os, time
from pylantir.data_sources.base import DataSourcePlugin

class Plugin(DataSourcePlugin):
    def validate_config(self, config):
        return True, ""

    def get_source_name(self):
        return "waits where it is told to"

    def fetch_entries(self, field_mapping, interval):
        for number in range(60):
            yield {"patient_id": f"P{number}", "scheduled_start_date": "2030-01-01", "source_record_id": str(number)}
        deadline = time.monotonic() + 30
        while os.path.exists("pause") and time.monotonic() < deadline:
            open("pausing", "w").close()
            time.sleep(0.01)
"""
