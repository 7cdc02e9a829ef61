"""A scanner of another make (Odil) reports its work."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from installation import Installation, csv_source, wait_until

SCANNER = Path(__file__).with_name("odil_scanner.py")
PYTHON = "/usr/bin/python3"


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
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    created, ended, late = json.loads(done.stdout)
    assert created["Status"] == 0x0000
    assert created["AffectedSOPInstanceUID"].startswith("2.25.")
    assert ended["Status"] == 0x0000
    assert (late["Status"], late["ErrorID"]) == (0x0110, 0xA710)
    assert late["ErrorComment"].strip() == "Performed Procedure Step Object may no longer be updated"
    assert installation.rows("select performed_procedure_step_status from worklist_items") == [("COMPLETED",)]
