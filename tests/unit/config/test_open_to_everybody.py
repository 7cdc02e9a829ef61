"""A worklist that everybody on the network can read is told, with the keys that change it, and served all the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pylantir.cli.main import main as pylantir
from pylantir.config.sections.scanners import open_to_everybody
from workers.commands.cli import main

TLS = {"certificate": "c.pem", "key": "k.pem", "ca": "ca.pem"}


@pytest.mark.parametrize(
    ("document", "is_open"),
    [
        ({}, True),
        ({"dicom": {}}, True),
        ({"dicom": "wrong"}, True),
        ({"dicom": {"host": "0.0.0.0"}}, True),
        ({"dicom": {"host": "10.1.2.3"}, "allowed_aet": [], "allowed_hosts": []}, True),
        ({"dicom": {"host": "::"}}, True),
        ({"dicom": {"host": "worklist.hospital.example"}}, True),
        ({"dicom": {"tls": TLS}}, True),
        ({"dicom": {"tls": {**TLS, "require_client_certificate": False}}}, True),
        ({"modalities": [{"ae_title": "MR1", "host": "10.1.1.1"}]}, True),
        ({"dicom": {"host": "127.0.0.1"}}, False),
        ({"dicom": {"host": "127.8.9.1"}}, False),
        ({"dicom": {"host": "::1"}}, False),
        ({"dicom": {"host": "localhost"}}, False),
        ({"allowed_aet": ["MR1"]}, False),
        ({"allowed_hosts": ["10.0.0.0/8"]}, False),
        ({"dicom": {"tls": {**TLS, "require_client_certificate": True}}}, False),
    ],
)
def test_open_is_what_any_machine_may_read(document: dict[str, Any], is_open: bool) -> None:
    assert bool(list(open_to_everybody(document))) is is_open


@pytest.mark.parametrize(("source", "status"), [({}, 0), ({"sync_interval": -1}, 78)])
def test_the_check_names_the_keys_also_beside_errors_and_its_status_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], source: dict[str, Any], status: int
) -> None:
    path = tmp_path / "pylantir.json"
    mapping = {"id": "patient_id", "date": "scheduled_start_date"}
    listed = [{"name": "a", "type": "csv", "config": {"file_path": "a.csv"}, "field_mapping": mapping, **source}]
    path.write_text(json.dumps({"data_sources": listed}), encoding="utf-8")
    assert main(["check", "--config", str(path)]) == status
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "dicom.host" in line]
    assert line.startswith("warning: pylantir.json: dicom.host: ")
    assert all(key in line for key in ("allowed_aet", "allowed_hosts", "dicom.tls.require_client_certificate"))


def test_what_init_writes_is_not_open(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "pylantir.json"
    assert pylantir(["init", str(path)]) == 0
    assert main(["check", "--config", str(path)]) == 0
    assert "dicom.host" not in capsys.readouterr().err
