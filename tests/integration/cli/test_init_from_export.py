"""`pylantir init --from EXPORT`: what is proposed passes the check and previews right, and what is not known is named."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pylantir.cli.proposal.sample import read_sample
from pylantir.cli.starters.init import is_configuration
from pylantir.errors import PylantirError

GERMAN = """Terminliste MRT;;;;;;;;
Patientennr.;Name;Vorname;Geb.-Datum;Geschlecht (m/w);Untersuchungsdatum;Uhrzeit;Untersuchung;Gewicht (kg)
0012;Müller;Jürgen;31.12.1980;m;01.12.2026;08:30;Knie;72,5
0013;Süß;Anna;01.02.1975;w;02.12.2026;9:45;Kopf;k.A.
0014;Groß;Eva;keine Angabe;w;02.12.2026;10:00
"""
AMERICAN = """MRN,Patient Name,Date of Birth,Sex,Appt,Exam
0012,"Doe, Jane",1/31/1980,Female,12/1/2026 9:30 AM,Head
0013,"Roe, Rick",3/4/1975,Male,12/15/2026 1:30 PM,Knee
"""
FRENCH = """N° patient;Nom;Prénom;Date de naissance;Sexe;Date RDV;Heure;Examen
12;Dupont;Zoë;31/12/1980;F;13/12/2026;08h30;Genou
13;Durand;Luc;01/02/1975;H;02/12/2026;09h45;Tête
"""
SPANISH = """NHC\tApellidos\tNombre\tFecha de nacimiento\tSexo\tFecha cita\tHora cita\tPrueba
12\tGarcía López\tJosé\t31/12/1980\tH\t13/12/2026\t08:30\tRodilla
13\tPérez Gil\tMaría\t01/02/1975\tM\t02/12/2026\t09:45\tCabeza
"""


def pylantir(folder: Path, *arguments: str, program: str = "pylantir.cli.main") -> subprocess.CompletedProcess[str]:
    code = f"from {program} import main; raise SystemExit(main())"
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "COLUMNS": "200"},
    )


def propose(folder: Path, name: str, content: bytes | str) -> tuple[dict[str, Any], str, dict[str, Any]]:
    """Give the proposed source, what was printed, and the preview."""
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    done = pylantir(folder, "init", "--from", name)
    assert done.returncode == 0, done.stderr
    (source,) = json.loads((folder / "pylantir.json").read_text(encoding="utf-8"))["data_sources"]
    checked = pylantir(folder, "check", program="workers.commands.cli")
    assert checked.returncode == 0, checked.stderr
    shown = pylantir(folder, "preview", source["name"], "--json")
    return source, done.stdout, json.loads(shown.stdout)


def fields(preview: dict[str, Any]) -> list[dict[str, str]]:
    assert preview["error"] is None
    return [entry["fields"] for entry in preview["entries"]]


def test_a_german_spreadsheet(tmp_path: Path) -> None:
    source, told, preview = propose(tmp_path, "termine.csv", GERMAN.replace("\n", "\r\n").encode("cp1252"))
    assert (source["name"], source["type"]) == ("termine", "csv")
    assert source["config"] == {
        "file_path": "termine.csv", "encoding": "cp1252", "skip_rows": 1, "delimiter": ";", "watch_for_changes": True,
    }  # fmt: skip
    mapping = source["field_mapping"]
    assert mapping["patient_name"] == {"from": ["Name", "Vorname"]}
    assert mapping["patient_sex"]["values"] == {"m": "M", "w": "F"}
    assert mapping["patient_birth_date"] == {"from": "Geb.-Datum", "format": "%d.%m.%Y"}
    assert {"k.A.", "keine Angabe", "NULL"} <= set(source["empty_values"])
    first, second, third = fields(preview)
    assert first["patient_id"] == "0012"
    assert first["patient_name"] == "Müller^Jürgen"
    assert (first["scheduled_start_date"], first["scheduled_start_time"]) == ("20261201", "083000")
    assert (second["patient_sex"], second["patient_birth_date"]) == ("F", "19750201")
    assert "patient_birth_date" not in third
    assert "Müller" not in told


def test_an_american_spreadsheet(tmp_path: Path) -> None:
    source, _, preview = propose(tmp_path, "today.csv", AMERICAN)
    assert source["field_mapping"]["scheduled_start"] == {"from": "Appt", "format": "%m/%d/%Y %I:%M %p"}
    first, second = fields(preview)
    assert (first["patient_name"], first["patient_birth_date"]) == ("Doe^Jane", "19800131")
    assert (second["scheduled_start_date"], second["scheduled_start_time"]) == ("20261215", "133000")


@pytest.mark.parametrize(("content", "name"), [(FRENCH, "Dupont^Zoë"), (SPANISH, "García López^José")])
def test_a_french_and_a_spanish_export(tmp_path: Path, content: str, name: str) -> None:
    _, _, preview = propose(tmp_path, "export.csv", content)
    first, second = fields(preview)
    assert (first["patient_id"], first["patient_name"], first["patient_birth_date"]) == ("12", name, "19801231")
    assert (first["scheduled_start_date"], first["scheduled_start_time"]) == ("20261213", "083000")
    sexes = ("F", "M") if content is FRENCH else ("M", "F")
    assert (first["patient_sex"], second["patient_sex"]) == sexes


@pytest.mark.parametrize(
    ("answers", "expected"),
    [(("0", "1"), ["1", "3"]), (("1", "1"), [None, None]), (("1", "4"), [None, None]), (("no", "yes"), ["1", "3"])],
)
def test_a_one_is_a_yes_only_beside_a_zero(
    tmp_path: Path, answers: tuple[str, str], expected: list[str | None]
) -> None:
    rows = "".join(f"P{number},2026-12-01,{answer}\n" for number, answer in enumerate(answers))
    _, told, preview = propose(tmp_path, "today.csv", "MRN,Exam date,Pregnant\n" + rows)
    assert [entry.get("pregnancy_status") for entry in fields(preview)] == expected
    assert ('"Pregnant": is 1 a yes' in told) == (expected == [None, None])


def test_day_and_month_that_cannot_be_told_apart_get_no_format_and_are_named(tmp_path: Path) -> None:
    source, told, _ = propose(
        tmp_path, "today.csv", "MRN,DOB,Exam date\nP1,1/2/1980,2026-12-01\nP2,3/4/1980,2026-12-01\n"
    )
    assert source["field_mapping"]["DOB"] == "patient_birth_date"
    assert '"DOB": day and month cannot be told apart' in told
    assert any("DOB" in text for text in source["_look_at"])


def test_what_cannot_be_known_is_named(tmp_path: Path) -> None:
    source, told, _ = propose(tmp_path, "today.csv", "ID,Exam date,Sex,Foo\n7,2026-12-01,1,x\n8,2026-12-01,2,y\n")
    assert "a guess" in told
    assert "2 of its words mean cannot be known" in told
    assert '"Foo" is not mapped' in told
    assert "MR is assumed" in told
    assert source["defaults"] == {"modality": "MR"}


def test_json_with_records_by_key_and_times_with_a_zone(tmp_path: Path) -> None:
    document = {
        "site": 7,
        "bookings": {
            "B1": {"mrn": "P1", "start": "2026-12-01T08:30:00Z"},
            "B2": {"mrn": "P2", "start": "2026-12-01T09:30:00Z"},
        },
    }
    source, _, preview = propose(tmp_path, "api.json", json.dumps(document))
    assert (source["config"]["records_path"], source["config"]["key_field"]) == ("bookings", "_key")
    assert [one["patient_id"] for one in fields(preview)] == ["P1", "P2"]


def test_json_with_visits_within_subjects(tmp_path: Path) -> None:
    document = [{"subject_id": "P1", "visits": [{"date": "2026-12-01"}, {"date": "2026-12-08"}]}]
    source, _, preview = propose(tmp_path, "study.json", json.dumps(document))
    assert source["config"]["records_path"] == "*.visits"
    assert [one["scheduled_start_date"] for one in fields(preview)] == ["20261201", "20261208"]


def test_out_may_be_elsewhere_and_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "conf").mkdir()
    (tmp_path / "data/list.csv").write_text(AMERICAN)
    assert pylantir(tmp_path, "init", "conf/my.json", "--from", "data/list.csv").returncode == 0
    (source,) = json.loads((tmp_path / "conf/my.json").read_text())["data_sources"]
    assert source["config"]["file_path"] == "../data/list.csv"
    again = pylantir(tmp_path, "init", "conf/my.json", "--from", "data/list.csv")
    assert again.returncode == 1
    assert "not overwritten" in again.stderr


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.csv", b"PK\x03\x04xl/workbook", "is a spreadsheet"),
        ("a.csv", b"<html>", "is an HTML page"),
        ("a.csv", b"x,y\n1,2\n", "no line of the first"),
        ("a.json", b"[1, 2]", "no records with fields that are known"),
        ("a.json", b"{broken", "is no JSON"),
        ("a.json", b'{"data_sources": [', "line 1, column"),
    ],
)
def test_what_cannot_be_read_is_called_by_its_name(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    (tmp_path / name).write_bytes(content)
    done = pylantir(tmp_path, "init", "--from", name)
    assert done.returncode != 0
    assert told in done.stderr
    assert not (tmp_path / "pylantir.json").exists()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"id,date\nP1," + b"x" * 200_000, "line 2: field larger"),
        (b"[" * 100_000, "is no JSON"),
        (gzip.compress(b"id,date\n" * 500)[:20] + b"\xff" * 200, "damaged gzip"),
        (None, "is no regular file"),
    ],
    ids=["long field", "deep", "damaged", "pipe"],
)
def test_no_file_makes_the_proposal_hang_or_end_in_a_traceback(
    tmp_path: Path, content: bytes | None, told: str
) -> None:
    path = tmp_path / "a.csv"
    if content is None:
        os.mkfifo(path)
    else:
        path.write_bytes(content)
    assert not is_configuration(path)
    with pytest.raises(PylantirError, match=told):
        read_sample(path)


def test_times_in_dicoms_form(tmp_path: Path) -> None:
    _, _, preview = propose(tmp_path, "ris.csv", "MRN,Date,Time\nA1,20261201,0930\nA2,20261202,1415\n")
    assert [one["scheduled_start_time"] for one in fields(preview)] == ["093000", "141500"]


def test_a_spreadsheets_numbers_of_days_and_hours(tmp_path: Path) -> None:
    export = "Patient ID,Scan Date,Scan Time,DOB\nA1,46357,0.3958333,29000\nA2,46358,0.5,25000\n"
    _, _, preview = propose(tmp_path, "serials.csv", export)
    first, second = fields(preview)
    assert (first["scheduled_start_date"], first["scheduled_start_time"]) == ("20261201", "093000")
    assert (second["scheduled_start_time"], second["patient_birth_date"]) == ("120000", "19680611")
