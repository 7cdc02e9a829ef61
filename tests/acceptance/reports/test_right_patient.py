"""Who stands on the scanner's list: stories with real files, queries and reports, all in one installation."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from installation import COMMAND, Installation
from stories import DAY, Hospital, Step, booking

R = booking
JANE = {"name": "Doe^Jane", "born": "19800517", "sex": "F"}
BOB = {"name": "Smith^Bob", "born": "19700101", "sex": "M"}
P1 = {"patient": "P1"}
LAST_WEEK = datetime.now(UTC) - timedelta(days=7)

STORIES = {
    "two sites with the same numbers": [
        Step(gives={
            "ris": [R("a1", "P1", time="080000", name="Smith^John", sex="M")],
            "csv": [R("b1", "P1", time="113000", name="Jones^Mary", sex="F", born="19900101")],
        }, sees=[
            {**P1, "name": "Smith^John", "sex": "M", "born": ""}, {**P1, "name": "Jones^Mary", "born": "19900101"},
        ], told=["kept_apart"]),
        Step(gives={"csv": [R("b1", "P2", name="Jones^Mary")]}, sees=[P1, {"patient": "P2"}], told=[]),
    ],
    "a stranger with the number of a done exam": [
        Step(gives={"ris": [R("a1", "P1", time="080000", name="Smith^John", sex="M")]}, scans={"P1": "COMPLETED"}, sees=[]),
        Step(gives={"csv": [R("b1", "P1", time="083000", name="Jones^Mary", sex="F")]}, sees=[{**P1, "name": "Jones^Mary"}]),
    ],
    "a year is no other birth date": [
        Step(gives={"ris": [R("r", "P1", born="19800517", accession="A")], "redcap": [R("d", "P1", born="1980", accession="A")]},
             sees=[{**P1, "born": "19800517"}], told=[]),
    ],
    "no time is no other time": [
        Step(gives={"ris": [R("r", "P1", time="080000")], "redcap": [R("d", "P1")]}, sees=[{**P1, "time": "080000"}]),
    ],
    "no modality is no other modality": [
        Step(gives={"ris": [R("r", "P1", time="080000", modality="CT")], "csv": [R("c", "P1", time="080000", modality="")]},
             sees=[{**P1, "modality": "CT"}]),
    ],
    "the procedure decides between two": [
        Step(gives={
            "ris": [R("r1", "P1", time="080000", protocol="HEAD"), R("r2", "P1", time="140000", protocol="KNEE")],
            "csv": [R("c", "P1", protocol="KNEE", name="Doe^Jane")],
        }, sees=[{**P1, "protocol": "HEAD", "time": "080000"}, {**P1, "protocol": "KNEE", "name": "Doe^Jane"}]),
    ],
    "another exam of the day is not the done one": [
        Step(gives={"ris": [R("r", "P1", time="080000", station="MR1", protocol="HEAD")]}, scans={"P1": "COMPLETED"}),
        Step(gives={"redcap": [R("d", "P1", time="150000", station="MR2", protocol="KNEE")]}, sees=[{**P1, "time": "150000"}]),
    ],
    "a study UID changes hands": [
        Step(gives={"ris": [R("r1", "P1", uid="1.2.3")], "csv": [R("c", "P2", uid="1.2.3")]},
             sees=[{**P1, "uid": "1.2.3"}], refused=["P2"]),
        Step(gives={"ris": [R("r1", "P1", uid="1.2.4")]},
             sees=[{**P1, "uid": "1.2.4"}, {"patient": "P2", "uid": "1.2.3"}]),
    ],
    "study UIDs are swapped": [
        Step(gives={"ris": [R("r1", "P1", uid="1.3.1"), R("r2", "P2", uid="1.3.2")]}),
        Step(gives={"ris": [R("r1", "P1", uid="1.3.2"), R("r2", "P2", uid="1.3.1")]},
             sees=[{**P1, "uid": "1.3.2"}, {"patient": "P2", "uid": "1.3.1"}]),
    ],
    "an accession number of a begun exam stays with it": [
        Step(gives={"csv": [R("c", "P1", accession="A")]}, scans={"P1": "IN PROGRESS"}),
        Step(gives={"ris": [R("r", "P2", accession="A")]}, sees=[P1], refused=["P2"]),
    ],
    "the next day's booking of a done exam's number, without record IDs": [
        Step(gives={"ris": [R(None, "P1", accession="A")]}, scans={"P1": "COMPLETED"}, sees=[]),
        Step(gives={"ris": [R(None, "P1", accession="A", date="20310701")]}, sees=[{**P1, "date": "20310701"}]),
    ],
    "the patient of a done exam comes again, without record IDs": [
        Step(gives={"csv": [R(None, "P1", time="090000")]}, scans={"P1": "COMPLETED"}, sees=[]),
        Step(gives={"csv": [R(None, "P1", time="093000")]}, sees=[], told=["wish"]),
        Step(gives={"csv": [R(None, "P1", time="150000")]}, sees=[{**P1, "time": "150000"}], told=[]),
        Step(gives={"csv": [R(None, "P1", time="090000", date="20300702")]}, sees=[{**P1, "date": "20300702"}]),
    ],
    "one source moves far on the same day, the other not yet": [
        Step(gives={"ris": [R("r", "P1", time="080000")], "redcap": [R("d", "P1", time="080000")]}, sees=[P1]),
        Step(gives={"ris": [R("r", "P1", time="150000")]}, sees=[P1, P1], told=["kept_apart"]),
        Step(gives={"redcap": [R("d", "P1", time="150000")]}, sees=[{**P1, "time": "150000"}], told=[]),
    ],
    "two issuers with one number, one exam done": [
        Step(gives={"ris": [R("a", "P1", issuer="A")]}, scans={"P1": "COMPLETED"}, sees=[]),
        Step(gives={"csv": [R("b", "P1", issuer="B")]}, sees=[{**P1, "issuer": "B"}], told=[]),
    ],
    "a done exam that nobody gives keeps its number for a season": [
        Step(gives={"csv": [R("c", "P1", accession="A", date=f"{LAST_WEEK:%Y%m%d}")]}, scans={"P1": "COMPLETED"}, ended=f"{LAST_WEEK:%Y%m%d}"),
        Step(gives={"csv": [], "ris": [R("r", "P2", accession="A")]}, sees=[], refused=["P2"]),
    ],
    "and no longer": [
        Step(gives={"csv": [R("c", "P1", accession="A", date="20240701")]}, scans={"P1": "COMPLETED"}, ended="20240701"),
        Step(gives={"ris": [R("r", "P2", accession="A")]}, sees=[], refused=["P2"]),
        Step(gives={"csv": []}, sees=[{"patient": "P2", "accession": "A"}]),
    ],
    "a discontinued exam is booked again": [
        Step(gives={"ris": [R("r", "P1", time="080000")]}, scans={"P1": "DISCONTINUED"}, sees=[P1]),
        Step(gives={"ris": [R("r", "P1", date="20300708")]}, sees=[{**P1, "date": "20300708"}]),
    ],
    "a discontinued exam is cancelled": [
        Step(gives={"ris": [R("r", "P1", accession="A")]}, scans={"P1": "DISCONTINUED"}, sees=[P1]),
        Step(gives={"ris": [], "csv": [R("c", "P2", accession="A")]}, sees=[{"patient": "P2", "accession": "A"}]),
    ],
    "a done exam gets an accession number, a record ID, its right patient ID": [
        Step(gives={"ris": [R(None, "P11", time="080000", **JANE)]}, scans={"P11": "COMPLETED"}, sees=[]),
        Step(gives={"ris": [R(None, "P11", time="080000", accession="A", **JANE)]}, sees=[]),
        Step(gives={"ris": [R("r", "P11", time="080000", accession="A", **JANE)]}, sees=[]),
        Step(gives={"ris": [R("r", "P1", time="080000", accession="A", **JANE)]}, sees=[], told=["wish"]),
    ],
    "a patient ID is corrected before the exam": [
        Step(gives={"ris": [R("r", "P11", uid="1.4", **JANE)]}),
        Step(gives={"ris": [R("r", "P1", uid="1.4", **JANE)]}, sees=[{**P1, "uid": "1.4"}]),
    ],
    "only one of two sources corrects a patient ID": [
        Step(gives={"ris": [R("r", "P11", **JANE)], "csv": [R("c", "P11", **JANE)]}, sees=[{"patient": "P11"}]),
        Step(gives={"csv": [R("c", "P1", **JANE)]}, sees=[{"patient": "P11"}, P1], told=["kept_apart"]),
        Step(gives={"ris": [R("r", "P1", **JANE)]}, sees=[P1], told=[]),
    ],
    "a patient ID is corrected during the exam": [
        Step(gives={"ris": [R("r", "P11", **JANE)]}, scans={"P11": "IN PROGRESS"}),
        Step(gives={"ris": [R("r", "P1", **JANE)]}, sees=[{"patient": "P11"}], told=["wish"]),
    ],
    "birth dates ten days apart": [
        Step(gives={"ris": [R("r", "P1", accession="A", born="19800517")], "csv": [R("c", "P1", accession="A", born="19800527")]},
             sees=[{**P1, "born": "19800517"}, {**P1, "born": "19800527"}], told=["kept_apart"]),
    ],
    "one source moves, the other not yet": [
        Step(gives={"ris": [R("r", "P1")], "redcap": [R("d", "P1")]}, sees=[P1]),
        Step(gives={"ris": [R("r", "P1", date="20300702")]}, sees=[{**P1, "date": DAY}, {**P1, "date": "20300702"}], told=["kept_apart"]),
        Step(gives={"redcap": [R("d", "P1", date="20300702")]}, sees=[{**P1, "date": "20300702"}], told=[]),
    ],
    "patient IDs move between records, one exam is done": [
        Step(gives={"ris": [R("r1", "P1", **JANE), R("r2", "P2", **BOB)]}, scans={"P1": "COMPLETED"}),
        Step(gives={"ris": [R("r2", "P1", **BOB), R("r1", "P3", **JANE)]}, sees=[{**P1, "name": "Smith^Bob"}]),
    ],
    "a row is inserted above those of two patients, one exam is done": [
        Step(gives={"ris": [R("1", "P1", time="080000", **JANE), R("2", "P2", time="090000", **BOB)]}, scans={"P1": "COMPLETED"}),
        Step(gives={"ris": [R("1", "P3"), R("2", "P1", time="080000", **JANE), R("3", "P2", time="090000", **BOB)]},
             sees=[{"patient": "P2", "name": "Smith^Bob"}, {"patient": "P3"}], told=[]),
    ],
    "a record without a time fits two exams": [
        Step(gives={"ris": [R("1", "P1", time="080000"), R("2", "P1", time="140000")], "redcap": [R("d", "P1")]},
             sees=[P1, P1, P1], told=["kept_apart", "kept_apart"]),
        Step(gives={"redcap": [R("d", "P1", time="140000")]}, sees=[P1, P1], told=[]),
    ],
    "another issuer's patient in the record of a done exam": [
        Step(gives={"ris": [R("r", "P1", issuer="A", **JANE)]}, scans={"P1": "COMPLETED"}, sees=[]),
        Step(gives={"ris": [R("r", "P1", issuer="B", **BOB)]}, sees=[{**P1, "name": "Smith^Bob", "issuer": "B"}]),
    ],
    "a report that fits two": [
        Step(gives={"ris": [R("r1", "P1", time="080000"), R("r2", "P1", time="140000")]}, reports=["P1"], sees=[P1, P1]),
    ],
    "symbols for an old scanner": [
        Step(gives={"ris": [R("r", "P1", protocol="Fentanyl 50 µg 10²")]},
             calling="OLD", sees=[{**P1, "protocol": "Fentanyl 50 ug 10^2"}]),
    ],
    "identifiers that an old scanner cannot show": [
        Step(gives={"ris": [R("r1", "P1"), R("r2", "П1", time="140000")]}, calling="OLD", sees=[P1]),
    ],
    "a name that an old scanner cannot show": [
        Step(gives={"ris": [R("r", "P1", name="=山田^太郎")]}, calling="OLD", sees=[P1]),
    ],
    "invisible characters in a name": [
        Step(gives={"ris": [R("r", "P1", name="Doe\u200b^Ja\u00adne")]}, sees=[{**P1, "name": "Doe^Jane"}]),
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory, findscu: str) -> Iterator[Hospital]:
    installation = Installation(tmp_path_factory.mktemp("hospital"))
    try:
        yield Hospital(installation, findscu, modalities=[{"ae_title": "OLD", "charset": "ISO_IR 6"}])
    finally:
        installation.close()


def say(hospital: Hospital, *command: str, status: int = 0) -> str:
    """Run a `pylantir` command; give what it prints."""
    installation, (name, *rest) = hospital.installation, command
    done = subprocess.run(
        [COMMAND.with_name("pylantir"), name, "--config", installation.config_path, *rest],
        capture_output=True, text=True, env=installation.environment, cwd=installation.folder, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == status, done
    return done.stdout + done.stderr


def about(listed: Any, patient: str) -> list[dict[str, Any]]:
    return [one for one in listed if one["patient_id"] == patient]


def test_every_story_goes_as_told(hospital: Hospital) -> None:
    assert hospital.tell(STORIES) == []
    log, place = hospital.installation.log(), hospital.places
    assert "are kept apart although their numbers agree" in log
    assert "belongs to no item: 2 items fit" in log
    assert all(one["name"] for one in hospital.seen("OLD"))

    kept = about(json.loads(say(hospital, "conflicts", "--json")), f"P1-{place['birth dates ten days apart']}")
    assert [(one["kind"], one["fields"], len(one["items"])) for one in kept] == [
        ("kept_apart", ["patient_birth_date"], 2)
    ]
    assert kept[0]["what_to_do"]
    waiting = f"P2-{place['an accession number of a begun exam stays with it']}"
    (refused,) = about(json.loads(say(hospital, "rejects", "--json")), waiting)
    assert refused["other_patient_id"] == waiting.replace("P2", "P1")
    assert f"item {refused['other_item']} of csv" in refused["reason"]
    unclear = about(json.loads(say(hospital, "audit", "--json")), f"P1-{place['a report that fits two']}")
    assert any("items_that_fit" in one["changes"] for one in unclear)

    # What frees a number lets the waiting one in, and what no source gives is not revived.
    say(hospital, "set-status", str(refused["other_item"]), "CANCELED", "--reason", "not done")
    assert waiting in [one["patient"] for one in hospital.seen()]
    done = {"again": [Step(gives={"redcap": [R("d", "X1")]}, scans={"X1": "COMPLETED"}), Step(gives={"redcap": []})]}
    assert hospital.tell(done) == []
    patient = f"X1-{place['again']}"
    ((gone,),) = hospital.installation.rows("select id from worklist_items where patient_id = ?", patient)
    assert "no source gives it" in say(hospital, "set-status", str(gone), "SCHEDULED", "--reason", "x", status=1)
