"""GDCM's command, a scanner of another make, asks for a patient."""

from __future__ import annotations

import logging
import random
import socket
import subprocess

import pytest
from dicom_server import serving

from foreign.questions import make_entries
from foreign.servers import needed
from pylantir.query import item_matches

pytestmark = pytest.mark.usefixtures("quiet_dicom_libraries")


def test_gdcm_gets_its_matches(bound: socket.socket, caplog: pytest.LogCaptureFixture) -> None:
    gdcmscu = needed("gdcmscu", "libgdcm-tools")
    items: list[dict[str, object]] = [
        {"id": number, "performed_procedure_step_status": "SCHEDULED", **entry}
        for number, entry in enumerate(make_entries(random.Random(1)), 1)
    ]
    own = [item for item in items if item["patient_id"] == "P007"]
    with (
        caplog.at_level(logging.INFO),
        serving(bound, lambda asked: [item for item in items if item_matches(asked, item)]) as served,
    ):
        command = [gdcmscu, "-H", "127.0.0.1", "-p", str(served.port), "--aetitle", "MR1", "--call", "PYLANTIR"]
        command += ["--worklist", "--debug", "--key", "10,20=P007", "--key", "10,10=", "--key", "20,d="]
        # Its exit status says nothing: GDCM 3.0 fails on its own release, after the answers.
        printed = subprocess.run(command, capture_output=True, timeout=90, check=False).stderr.decode("latin_1")
    assert "C-Find was successful." in printed
    assert f"query from MR1: {len(own)} matches, status 0x0000" in caplog.text
