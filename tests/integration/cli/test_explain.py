"""`pylantir explain` on a real database: each rule that hides an item is named."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from pylantir.cli.main import main
from pylantir.store.schema.engine import open_for_writing
from pylantir.store.schema.tables import worklist_items
from pylantir.store.schema.upgrade import prepare_database

Explain = Callable[..., tuple[int, dict[str, Any], str]]
TODAY = datetime.date.today().strftime("%Y%m%d")  # noqa: DTZ011


@pytest.fixture
def explain(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Explain:
    """Explain one item: (exit status, rule -> whether it is met, the last line)."""
    engine = open_for_writing(f"sqlite:///{tmp_path / 'worklist.db'}")
    prepare_database(engine)
    common = {"scheduled_start_time": "093000", "study_instance_uid": "1.2.3", "modality": "MR"}
    items = [
        {"patient_id": "P1", "patient_name": "Doe^Jane", "scheduled_start_date": TODAY},
        {"patient_id": "P2", "patient_name": "Roe^John", "scheduled_start_date": TODAY},
        {"patient_id": "P3", "scheduled_start_date": "20200101", "performed_procedure_step_status": "COMPLETED"},
        {"patient_id": "P4", "scheduled_start_date": TODAY, "study_instance_uid": None},
        {"patient_id": "П5", "scheduled_start_date": TODAY},
    ]
    rows = [
        {"id": number, "performed_procedure_step_status": "SCHEDULED", "patient_name": None, **common, **item}
        for number, item in enumerate(items, start=1)
    ]
    with engine.begin() as connection:
        connection.execute(insert(worklist_items), rows)
    engine.dispose()
    source = {"name": "a", "type": "csv", "config": {"file_path": "a.csv"}}

    def run(*arguments: str, **sections: Any) -> tuple[int, dict[str, Any], str]:
        config = tmp_path / "pylantir.json"
        config.write_text(json.dumps({"db_path": "worklist.db", "data_sources": [source], **sections}))
        said = main(["explain", *arguments, "--config", str(config)]), capsys.readouterr()
        status = main(["explain", *arguments, "--config", str(config), "--json"])
        printed = capsys.readouterr()
        assert said[0] == status
        rules = json.loads(printed.out) if printed.out else []
        assert bool(said[1].out) != bool(said[1].err)
        return status, {rule["rule"]: rule["is_met"] for rule in rules}, (said[1].out or said[1].err).strip()

    return run


def test_an_item_that_a_scanner_gets_meets_every_rule(explain: Explain) -> None:
    keys = ("--key", "PatientName=DOE*", "--key", "ScheduledProcedureStepSequence.Modality=MR")
    status, rules, said = explain("1", "--calling", "MR1", *keys)
    assert status == 0
    assert said == "item 1 appears on MR1 for the query PatientName = DOE* and Modality = MR."
    assert rules == {"PatientName": True, "Modality": True, "mwl.serve_statuses": True}


def test_what_hides_an_item_is_named(explain: Explain) -> None:
    sections = {
        "mwl": {"expire_after_days": 1, "days_ahead": 1},
        "modalities": [{"ae_title": "CT1", "modality": "CT"}],
        "allowed_aet": ["CT1"],
    }
    status, rules, said = explain("3", "--key", "PatientID=P3", **sections)
    assert status == 1
    assert rules == {
        "allowed_aet": True,
        "PatientID": True,
        "mwl.serve_statuses": False,
        "mwl.expire_after_days": False,
        "mwl.days_ahead": True,
        "modalities.modality": False,
    }
    assert said.startswith("item 3 does not appear on CT1 for the query PatientID = P3: mwl.serve_statuses wants ")
    assert "modalities.modality wants CT, the item has MR" in said
    assert " or later, the item has " in said
    assert "\n" not in said
    _, _, said = explain("3", "--calling", "MR9", **sections)
    assert "allowed_aet admits CT1: MR9 may not ask at all; " in said


def test_a_key_with_a_range_of_days_and_hours_is_one_rule(explain: Explain) -> None:
    keys = ("--key", "ScheduledProcedureStepStartDate=20200101-", "--key", "ScheduledProcedureStepStartTime=1200-")
    _, rules, _ = explain("3", "--calling", "MR1", "--key", "ScheduledProcedureStepStatus=COMPLETED", *keys)
    period = "ScheduledProcedureStepStartDate and ScheduledProcedureStepStartTime"
    assert rules == {"ScheduledProcedureStepStatus": True, period: False}


def test_an_item_behind_the_scanners_limit_is_said_to_be(explain: Explain) -> None:
    modalities = [{"ae_title": "MR1", "max_answers": 1}]
    assert explain("1", "--calling", "MR1", modalities=modalities)[1]["modalities.max_answers"] is True
    assert explain("2", "--calling", "MR1", modalities=modalities)[1]["modalities.max_answers"] is False


def test_an_item_without_a_value_that_no_answer_may_lack_is_said_to_be(explain: Explain) -> None:
    status, rules, _ = explain("4")
    assert status == 1
    assert rules["a value that no answer may lack"] is False


@pytest.mark.parametrize(
    ("arguments", "expected", "said"),
    [
        (("99",), 1, "no item 99"),
        (("1", "--key", "PatientID"), 2, "expected KEYWORD=VALUE"),
        (("1", "--key", "PatientSexx=2"), 2, 'no key "PatientSexx": did you mean "PatientSex"?'),
        (("1", "--key", "ScheduledProcedureStepStartDate=today"), 2, "expected a date"),
    ],
)
def test_what_cannot_be_explained_says_why(
    explain: Explain, arguments: tuple[str, ...], expected: int, said: str
) -> None:
    status, rules, message = explain(*arguments)
    assert (status, rules) == (expected, {})
    assert said in message


def test_an_identifier_that_a_scanners_set_cannot_hold_is_said_to_be_the_reason(explain: Explain) -> None:
    modalities = [{"ae_title": "MR1", "charset": "ISO_IR 6"}]
    assert explain("5", "--calling", "MR2", modalities=modalities)[0] == 0
    status, rules, said = explain("5", "--calling", "MR1", modalities=modalities)
    assert (status, rules["an identifier is sent exactly as it is, or not at all"]) == (1, False)
    assert "patient_id of at most 64 characters in ISO_IR 6" in said


def test_an_item_of_no_station_appears_for_the_scanners_own_title_alone(explain: Explain) -> None:
    key = ("--key", "ScheduledStationAETitle=MR1")
    assert explain("1", "--calling", "MR1", *key)[0] == 0
    status, _, said = explain("1", "--calling", "MR2", *key)
    assert status == 1
    assert "ScheduledStationAETitle = MR1" in said


@pytest.mark.parametrize("arguments", [(), ("1", "--last", "MR1")])
def test_explain_takes_an_item_or_a_scanner(explain: Explain, arguments: tuple[str, ...]) -> None:
    assert "an ITEM, or --last" in explain(*arguments)[2]
