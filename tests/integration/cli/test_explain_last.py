"""`pylantir explain --last`: a scanner's last query is told with its keys, its answer, and what was left out."""

from __future__ import annotations

import base64
import datetime
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom.dsutils import encode
from sqlalchemy import insert

from pylantir.cli.explaining.last import describe
from pylantir.settings import DicomSettings, Settings
from pylantir.store.schema.engine import open_for_writing
from pylantir.store.schema.tables import worklist_items
from pylantir.store.schema.upgrade import prepare_database

TODAY = datetime.date(2030, 7, 1)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    url = f"sqlite:///{tmp_path / 'worklist.db'}"
    engine = open_for_writing(url)
    prepare_database(engine)
    common = {
        "scheduled_start_date": "20300701", "scheduled_start_time": "093000", "modality": "MR",
        "performed_procedure_step_status": "SCHEDULED",
    }  # fmt: skip
    rows = [{**common, "patient_id": f"P{number}", "study_instance_uid": f"2.25.{number}"} for number in (1, 2)]
    with engine.begin() as connection:
        connection.execute(insert(worklist_items), rows)
    engine.dispose()
    return Settings(config_path="", base_dir="", db_url=url, runtime_dir="", dicom=DicomSettings())


def facts(identifier: bytes) -> dict[str, Any]:
    return {
        "at": "2030-07-01T08:00:00+00:00", "address": "10.0.0.7", "calling": "MR1", "called": "PYLANTIR",
        "implementation_class": "1.2", "implementation_version": "V1", "max_length": 16384,
        "transfer_syntax": "1.2.840.10008.1.2", "explicit_vr": False, "matches": 1, "pending_status": 0xFF01,
        "status": 0, "comment": "", "identifier": base64.b64encode(identifier).decode(),
    }  # fmt: skip


def test_keys_with_values_and_what_was_left_out_are_told(settings: Settings) -> None:
    step = Dataset()
    step.Modality = "MR"
    asked = Dataset()
    asked.PatientID, asked.PatientName, asked.PatientWeight = "P1", None, "70"
    asked.ScheduledProcedureStepSequence = [step]
    told = describe(facts(encode(asked, True, True) or b""), settings, TODAY)
    assert told["keys"]["PatientID"] == "P1"
    assert told["keys"]["ScheduledProcedureStepSequence.Modality"] == "MR"
    assert told["keys"]["PatientName"] == ""
    assert told["not_matched"] == ["(0010,1030)"]
    assert told["left_out"] == [{"item": 2, "reasons": ["PatientID wants P1, the item has P2"]}]
    assert (told["address"], told["matches"], told["status"]) == ("10.0.0.7", 1, 0)
    assert "identifier" not in told


@pytest.mark.parametrize("identifier", [b"", b"\x10\x00\x20\x00\xff\xff\xff\x7fP1", b"\x08\x00"])
def test_a_query_that_could_not_be_read_is_said_to_be(settings: Settings, identifier: bytes) -> None:
    assert describe(facts(identifier), settings, TODAY)["error"]


def test_a_key_that_cannot_be_read_hides_neither_the_others_nor_the_answer(settings: Settings) -> None:
    asked = b"\x10\x00\x20\x00\x02\x00\x00\x00P1" + b"\x10\x00\xc0\x21\x03\x00\x00\x00abc"
    told = describe(facts(asked), settings, TODAY)
    assert told["keys"] == {"PatientID": "P1", "PregnancyStatus": "(cannot be read)"}
    assert (told["not_matched"], len(told["left_out"])) == (["(0010,21C0)"], 1)
    assert "error" not in told


def test_of_a_query_that_was_not_kept_the_servers_comment_is_told(settings: Settings) -> None:
    refused = {**facts(b""), "identifier": None, "status": 0xA900, "comment": "the value is too long"}
    assert describe(refused, settings, TODAY)["error"] == "the value is too long"
    assert "too long to be kept" in describe({**refused, "comment": ""}, settings, TODAY)["error"]
