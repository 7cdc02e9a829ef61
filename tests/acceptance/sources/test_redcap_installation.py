"""An installation for REDCap alone goes on with this version: its configuration, its database, its command line."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dcmtk import find_worklist
from installation import COMMAND, Installation, wait_until
from old_installation import CONFIGURATION, METADATA, OLD_ROWS, make_old_database, participant
from redcap_server import TOKEN, RedcapServer

from pylantir.config.locate import default_runtime_dir

PYLANTIR = COMMAND.with_name("pylantir")
OLD_UIDS = [row[0] for row in OLD_ROWS]
STEP = "ScheduledProcedureStepSequence[0]"
DETAILS = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "PatientWeight",
    "StudyInstanceUID",
    "RequestedProcedureDescription",
    f"{STEP}.Modality",
    f"{STEP}.ScheduledProcedureStepStartDate",
    f"{STEP}.ScheduledProcedureStepStartTime",
    f"{STEP}.ScheduledPerformingPhysicianName",
)
UNRELATED = {"name": "other", "type": "csv", "config": {"file_path": "none.csv"}}
REDCAP_SOURCE = {
    "name": "redcap",
    "type": "redcap",
    "sync_interval": 1,
    "config": {"site_id": "792", "protocol": {"792": "BRAIN_MRI_3T"}, "timeout": 20, "patience": 1},
    "field_mapping": {"study_id": "study_id", "mri_instance": "session_id", "family_id": "family_id"},
    "defaults": {"modality": "MR"},
}


class RedcapInstallation(Installation):
    """A folder with an old configuration, and a REDCap server that it knows."""

    def __init__(self, folder: Path, redcap: RedcapServer) -> None:
        super().__init__(folder)
        self.redcap = redcap
        for name in ("DB_PATH", "DB_ECHO", "DEBUG"):
            self.environment.pop(name, None)
        self.environment |= {"HOME": str(folder), "REDCAP_API_URL": redcap.url, "REDCAP_API_TOKEN": TOKEN}

    def write_old_configuration(self, **changes: Any) -> None:
        self.config_path.write_text(json.dumps({**CONFIGURATION, **changes}), encoding="utf-8")
        self.runtime_dir = default_runtime_dir(self.config_path, self.environment)

    def configure_redcap(self, **config: Any) -> None:
        self.configure({**REDCAP_SOURCE, "config": {**REDCAP_SOURCE["config"], **config}})

    def keep_secrets_in_a_file(self) -> None:
        names = ("REDCAP_API_URL", "REDCAP_API_TOKEN")
        text = "".join(f"{name}={self.environment.pop(name)}\n" for name in names)
        (self.folder / ".env").write_text(text, encoding="utf-8")

    def start_as_before(self, until: str | None = "healthy") -> None:
        """Use the old command line."""
        options = ["--AEtitle", "OLD_MWL", "--ip", "127.0.0.1", "--port", str(self.port)]
        with self.log_path.open("ab") as log:
            self.supervisor = subprocess.Popen(
                [PYLANTIR, "start", *options, "--pylantir_config", self.config_path],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment,
                cwd=self.folder,
                start_new_session=True,
            )
        self._sessions.append(self.supervisor.pid)
        if until:
            self.wait_for_health(until)

    def pylantir(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [PYLANTIR, *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, env=self.environment, cwd=self.folder, timeout=120, check=False
        )

    def sync_again(self, times: int = 2) -> None:
        source = self.rows("select data_source from sync_runs limit 1")[0][0]
        before = len(self.runs(source))
        wait_until(lambda: len(self.runs(source)) >= before + times, f"{times} more cycles")

    def find_as(self, findscu: str, called: str, *keys: str) -> list[dict[str, str]]:
        answers = find_worklist(findscu, self.port, self.folder, *keys, called=called)
        return sorted(answers, key=lambda answer: answer["PatientID"])

    def items(self) -> dict[str, tuple[str, str, str, str]]:
        """Patient ID -> study UID, date, time, status; an item per patient, or it fails."""
        columns = "patient_id, study_instance_uid, scheduled_start_date, scheduled_start_time"
        rows = self.rows(f"select {columns}, performed_procedure_step_status from worklist_items")
        assert len({row[0] for row in rows}) == len(rows)
        return {row[0]: tuple(row[1:]) for row in rows}

    def where_the_token_is(self) -> list[str]:
        """Everything written that holds the token."""
        told = [path for path in self.folder.rglob("*") if path.is_file() and path.name != ".env"]
        return [str(path) for path in told if TOKEN.encode() in path.read_bytes()]


@pytest.fixture
def redcap() -> Iterator[RedcapServer]:
    with RedcapServer(METADATA) as server:
        hours_ago = 5 * 3600.0
        server.put(*participant(101, date="2030-01-30", time="10:15", mri_wt_lbs="154"), changed_s_ago=hours_ago)
        server.put(*participant(102, date="2030-01-31", time="11:00"), changed_s_ago=hours_ago)
        server.put(
            *participant(103, date="2030-02-01", time="9:30", mri_operator="Иванов^Пётр"), changed_s_ago=hours_ago
        )
        yield server


@pytest.fixture
def site(tmp_path: Path, redcap: RedcapServer) -> Iterator[RedcapInstallation]:
    made = RedcapInstallation(tmp_path, redcap)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("changes", "version", "env_file"),
    [
        pytest.param({}, "0.2", False, id="old keys alone"),
        pytest.param({"data_sources": []}, "0.4", True, id="no sources beside them"),
        pytest.param(
            {"mri_visit_session_mapping": {"t1": "1"}, "users_db_path": "users.db", "api": {"port": 8000}},
            "0.2",
            True,
            id="extra keys",
        ),
        pytest.param({"legacy_mode": True, "data_sources": [UNRELATED]}, "0.4", False, id="legacy mode"),
    ],
)
def test_old_installation_goes_on_unchanged(
    site: RedcapInstallation, findscu: str, changes: dict[str, Any], version: str, env_file: bool
) -> None:
    site.write_old_configuration(**changes)
    make_old_database(site.database, version)
    if env_file:
        site.keep_secrets_in_a_file()
    site.start_as_before()
    site.sync_again()

    items = site.items()
    assert items["sub_101_ses_1_fam_7_site_792"] == ("1.2.3.1", "20300130", "101500", "SCHEDULED")
    assert items["sub_102_ses_1_fam_7_site_792"] == ("1.2.3.2", "20300131", "110000", "COMPLETED")
    assert items["sub_103_ses_1_fam_7_site_792"][1:] == ("20300201", "093000", "SCHEDULED")
    assert len(items) == 3
    assert len(list(site.folder.glob("worklist.db.*.backup"))) == 1

    answers = site.find_as(findscu, "OLD_MWL", *DETAILS)
    assert [answer["PatientID"] for answer in answers] == [
        "sub_101_ses_1_fam_7_site_792",
        "sub_103_ses_1_fam_7_site_792",
    ]
    assert {name: text for name, text in answers[0].items() if name in {key.split(".")[-1] for key in DETAILS}} == {
        "PatientID": "sub_101_ses_1_fam_7_site_792",
        "PatientName": "cpip-id-101^fa-7",
        "PatientBirthDate": "20100101",
        "PatientSex": "M",
        "PatientWeight": "69.85 ",
        "StudyInstanceUID": "1.2.3.1",
        "RequestedProcedureDescription": "CPIP",
        "Modality": "MR",
        "ScheduledProcedureStepStartDate": "20300130",
        "ScheduledProcedureStepStartTime": "101500",
        "ScheduledPerformingPhysicianName": "",
    }
    assert answers[1]["ScheduledPerformingPhysicianName"] == "Иванов^Пётр"

    warnings = [line for line in site.log().splitlines() if " WARNING " in line]
    assert len(warnings) == 1
    assert "`pylantir init --from pylantir.json` writes the new form" in warnings[0]
    assert site.where_the_token_is() == []

    assert site.supervisor
    site.supervisor.send_signal(signal.SIGINT)
    assert site.supervisor.wait(120) == 0
    wait_until(lambda: not site.live_processes(), "everything is gone")


def test_sync_keeps_uid_and_status_when_the_record_changes(site: RedcapInstallation) -> None:
    site.write_old_configuration()
    make_old_database(site.database, "0.4")
    site.start_as_before()
    new_uid = site.items()["sub_103_ses_1_fam_7_site_792"][0]
    for number in (101, 102, 103):
        site.redcap.put(*participant(number, date="2030-03-01", time="08:00"))
    wait_until(lambda: site.items()["sub_103_ses_1_fam_7_site_792"][1] == "20300301", "the new date")
    assert site.items() == {
        "sub_101_ses_1_fam_7_site_792": ("1.2.3.1", "20300301", "080000", "SCHEDULED"),
        # What the scanner has done is not scheduled anew.
        "sub_102_ses_1_fam_7_site_792": ("1.2.3.2", "20300131", "110000", "COMPLETED"),
        "sub_103_ses_1_fam_7_site_792": (new_uid, "20300301", "080000", "SCHEDULED"),
    }


def test_typing_error_in_the_configuration_starts_nothing(site: RedcapInstallation) -> None:
    site.write_old_configuration()
    site.config_path.write_text(site.config_path.read_text().replace(",", "", 1), encoding="utf-8")
    assert refused_at_once(site, "pylantir.json: line 1, column")
    assert not (site.folder / "Desktop").exists()


def test_unknown_source_type_starts_nothing(site: RedcapInstallation) -> None:
    site.write_old_configuration(redcap2wl={}, data_sources=[{"name": "a", "type": "redcp"}])
    assert refused_at_once(site, 'did you mean "redcap"')


def refused_at_once(site: RedcapInstallation, told: str) -> bool:
    site.start_as_before(until=None)
    assert site.supervisor
    assert site.supervisor.wait(120) == 78
    assert told in site.log()
    assert not site.database.exists()
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", site.port)) != 0


def test_scanner_finds_by_more_than_name_and_id(site: RedcapInstallation, findscu: str) -> None:
    site.write_old_configuration()
    site.start_as_before()
    found = {
        "PatientName=CPIP-ID-10[1]*": [],
        "PatientName=cpip-id-10?*": ["101", "102", "103"],
        "PatientID=*102*": ["102"],
        f"{STEP}.ScheduledProcedureStepStartDate=20300131-": ["102", "103"],
        f"{STEP}.Modality=CT": [],
        f"{STEP}.Modality=MR": ["101", "102", "103"],
    }
    for key, numbers in found.items():
        answers = site.find_as(
            findscu, "OLD_MWL", *dict.fromkeys((key, *(() if "PatientID" in key else ("PatientID",))))
        )
        assert [answer["PatientID"].split("_")[1] for answer in answers] == numbers, key


def test_commands_of_old_find_the_worklist(site: RedcapInstallation) -> None:
    site.write_old_configuration()
    site.start_as_before()
    shown = site.pylantir("query-db", "--pylantir_config", str(site.config_path), "--json")
    assert [item["patient_id"] for item in json.loads(shown.stdout)] == sorted(site.items())
    options = ("--ip", "127.0.0.1", "--port", str(site.port), "--AEtitle", "OLD_MWL", "--callingAEtitle", "MWL_TESTER")
    seen = site.pylantir("test-client", *options)
    assert seen.returncode == 0, seen.stderr
    assert "cpip-id-101" in seen.stdout


def test_deleted_record_is_cancelled_and_comes_back(site: RedcapInstallation) -> None:
    site.configure_redcap(reconcile_interval=1)
    site.start()
    everybody = site.patients()
    assert len(everybody) == 3
    rows = site.redcap.records["101"]
    site.redcap.delete("101")
    wait_until(lambda: site.patients() == everybody[1:], "the deleted one is cancelled")
    # Back without a change that REDCap would tell of, as when a right is taken away and given again.
    site.redcap.records["101"] = rows
    wait_until(lambda: site.patients() == everybody, "it comes back")


def test_deletion_of_most_records_waits_for_a_decision(site: RedcapInstallation) -> None:
    for number in range(104, 113):
        site.redcap.put(*participant(number, date="2030-02-02", time="10:00"), changed_s_ago=3600)
    # The one comparison that is asked for must not fail because a request takes a moment.
    site.configure_redcap(patience=20)
    site.start()
    everybody = site.patients()
    assert len(everybody) == 12
    for number in range(102, 113):
        site.redcap.delete(str(number))
    # Compared hourly, or when somebody asks.
    assert site.command("sync", "redcap").returncode == 0
    wait_until(lambda: "would cancel 11 of 12 items" in str(site.process("redcap")["last_error"]), "they are held")
    site.wait_for_health("degraded")
    site.sync_again()
    assert site.patients() == everybody
    accepted = site.pylantir("accept", "redcap", "--config", str(site.config_path))
    assert accepted.returncode == 0, accepted.stderr
    wait_until(lambda: len(site.patients()) == 1, "what was accepted is cancelled")
    site.wait_for_health("healthy")


def test_nothing_is_lost_while_redcap_is_down(site: RedcapInstallation) -> None:
    site.configure_redcap(reconcile_interval=1)
    site.start()
    before = site.items()
    site.redcap.shut_down()
    site.wait_for_health("degraded")
    site.redcap.put(*participant(101, date="2030-05-05", time="10:00"))
    site.redcap.put(*participant(104, date="2030-05-06", time="10:00"))
    assert site.items() == before
    site.redcap.come_back()
    wait_until(lambda: len(site.items()) == 4, "the new one")
    assert site.items()["sub_101_ses_1_fam_7_site_792"][0] == before["sub_101_ses_1_fam_7_site_792"][0]
    assert site.items()["sub_101_ses_1_fam_7_site_792"][1] == "20300505"
    site.wait_for_health("healthy")
    assert site.rows("select count(*) from worklist_items where performed_procedure_step_status = 'CANCELED'") == [(0,)]


def test_token_is_in_nothing_that_is_written(site: RedcapInstallation) -> None:
    site.configure_redcap()
    site.redcap.faults += ["", "error in 200"]
    site.start(until=None)
    site.wait_for_log("fetch failed")
    site.wait_for_health("healthy")
    status = site.command("status", "--json").stdout
    audit = site.pylantir("audit", "--config", str(site.config_path), "--json").stdout
    preview = site.pylantir("preview", "redcap", "--config", str(site.config_path))
    assert json.loads(audit)
    assert preview.returncode == 0
    assert not [text for text in (status, audit, preview.stdout, preview.stderr) if TOKEN in text]
    assert site.where_the_token_is() == []
