"""Scanners of other makes (Odil, dcmjs-dimse) ask for their work and report it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from foreign.servers import needed
from installation import CSV_MAPPING, Installation, csv_source, wait_until
from npm_packages import install_packages

SCANNER = Path(__file__).with_name("odil_scanner.py")
PYTHON = "/usr/bin/python3"
ROOT = Path(__file__).parents[3]
DCMJS = ROOT / "tests" / "foreign" / "dcmjs"


@pytest.fixture
def python_with_odil() -> str:
    probe = (
        subprocess.run([PYTHON, "-c", "import odil"], capture_output=True, check=False)
        if Path(PYTHON).exists()
        else None
    )
    if probe and probe.returncode == 0:
        return PYTHON
    if os.environ.get("CI"):
        pytest.fail("Odil is needed: apt-get install python3-odil")
    pytest.skip("Odil is not installed (python3-odil)")


def test_odil_reports_a_scan(python_with_odil: str, installation: Installation) -> None:
    installation.write_csv("list.csv", ["P1"])
    installation.configure(csv_source("clinic", "list.csv"))
    installation.start()
    wait_until(lambda: installation.patients() == ["P1"], "the patient is in the worklist")
    ((study_uid,),) = installation.rows("select study_instance_uid from worklist_items")
    command = [python_with_odil, str(SCANNER), str(installation.port), study_uid, "P1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    created, ended, late = json.loads(done.stdout)
    assert created["Status"] == 0x0000
    assert created["AffectedSOPInstanceUID"].startswith("2.25.")
    assert ended["Status"] == 0x0000
    assert (late["Status"], late["ErrorID"]) == (0x0110, 0xA710)
    assert late["ErrorComment"].strip() == "Performed Procedure Step Object may no longer be updated"
    assert installation.rows("select performed_procedure_step_status from worklist_items") == [("COMPLETED",)]


@pytest.fixture
def dcmjs_packages() -> Path:
    return install_packages(DCMJS)


def test_dcmjs_finds_its_day_and_reports_a_scan(dcmjs_packages: Path, installation: Installation) -> None:
    mapping = {**CSV_MAPPING, "station": "scheduled_station_aetitle"}
    rows = ["P1,2030-01-01,Doe^P1,DCMJS", "P2,2030-01-02,Doe^P2,DCMJS", "P3,2030-01-01,Doe^P3,OTHER"]
    installation.folder.joinpath("list.csv").write_text("\n".join(["id,date,name,station", *rows, ""]))
    installation.configure(csv_source("clinic", "list.csv", field_mapping=mapping))
    installation.start()
    wait_until(lambda: len(installation.patients()) == 3, "the patients are in the worklist")
    command = [needed("node", "nodejs"), str(DCMJS / "scanner.js"), str(installation.port), "DCMJS", "20300101"]
    environment = {**os.environ, "NODE_PATH": str(dcmjs_packages)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said == {"echo": 0x0000, "patients": ["P1"], "found": 0x0000, "reports": [0x0000, 0x0000, 0x0110]}
    statuses = installation.rows("select patient_id, performed_procedure_step_status from worklist_items order by 1")
    assert statuses == [("P1", "COMPLETED"), ("P2", "SCHEDULED"), ("P3", "SCHEDULED")]
