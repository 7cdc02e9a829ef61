"""An erased patient is in no file of the instance, in no encoding; who is booked again is served."""

from __future__ import annotations

import base64
import json
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from installation import COMMAND, Installation, csv_source, wait_until

ID, NAME, OLD_NAME, BORN = "ZQ-771177", "Qwörtzel^Ännchen", "Xyloph^Ännchen", "19330517"
OTHERS = [("P1", "Ordinary^One", "1980-01-02"), ("P2", "Ordinary^Two", "1933-05-18")]
MAPPING = {"id": "patient_id", "date": "scheduled_start_date", "name": "patient_name", "born": "patient_birth_date"}


def pylantir(installation: Installation, *arguments: str) -> subprocess.CompletedProcess[str]:
    command, *rest = arguments
    return subprocess.run(
        [COMMAND.with_name("pylantir"), command, "--config", installation.config_path, *rest],
        capture_output=True, text=True, env=installation.environment, cwd=installation.folder, timeout=120, check=False,
    )  # fmt: skip


def forms(*values: str) -> Iterator[bytes]:
    """Yield a value in every common encoding, and a birth date as people and DICOM write it."""
    for value in values:
        for text in {value, value.upper(), value.replace("^", " "), value.replace("^", ", ")}:
            for encoding in ("utf-8", "utf-16-le", "utf-16-be", "latin-1"):
                data = text.encode(encoding)
                yield data
                for before in range(3):
                    first, last = -(-8 * before // 6), 8 * (before + len(data)) // 6
                    yield base64.b64encode(bytes(before) + data + bytes(3))[first:last]
            yield json.dumps(text)[1:-1].encode()
            yield repr(text.encode())[2:-1].encode()


TRACES = {*forms(ID, NAME, OLD_NAME, "Qwörtzel", "Xyloph", BORN, "1933-05-17", "17.05.1933")}


def find_traces(folder: Path, kept: set[Path]) -> set[tuple[str, bytes]]:
    files = [path for path in folder.rglob("*") if path.is_file() and path not in kept]
    assert files
    return {
        (str(path), trace) for path in files for content in [path.read_bytes()] for trace in TRACES if trace in content
    }


def write(installation: Installation, name: str, *rows: tuple[str, str, str]) -> None:
    lines = ["id,date,name,born", *(f"{patient},2030-01-01,{called},{born}" for patient, called, born in rows)]
    installation.write(name, "\n".join(lines) + "\n")


def source(name: str, **changes: Any) -> dict[str, Any]:
    return csv_source(name, f"{name}.csv", field_mapping=MAPPING, **changes)


@pytest.fixture
def known(installation: Installation) -> Installation:
    """The patient has left traces everywhere; no source gives any of it now, and one is not configured any more."""
    him = (ID, NAME, "1933-05-17")
    for name in ("clinic", "gone"):
        write(installation, name + ".csv", *OTHERS, (ID, OLD_NAME, "1933-05-17"))
    # The same record is refused later: its date cannot be read.
    sources = [source("clinic"), source("gone")]
    installation.configure(*sources)
    installation.start()
    wait_until(lambda: ID in installation.patients(), "the patient")
    write(installation, "clinic.csv", *OTHERS, him)
    wait_until(lambda: installation.rows("select 1 from audit_log where changes like '%Qw%'"), "the corrected name")
    assert pylantir(installation, "test-client", "--patient", ID).returncode == 0
    assert pylantir(installation, "test-mpps", "--patient", ID).returncode == 0
    installation.write(
        "clinic.csv",
        f"id,date,name,born\nP1,2030-01-01,Ordinary^One,1980-01-02\nP2,2030-01-01,Ordinary^Two,1933-05-18\n{ID},soon,{NAME},x\n",
    )
    wait_until(lambda: installation.rows("select 1 from rejected_entries where patient_id = ?", ID), "a refused record")
    installation.configure(*sources[:1])
    assert installation.command("reload").returncode == 0
    installation.wait_for_log("writer has ended .* is started again")
    installation.wait_for_health("healthy")
    (installation.folder / "gone.csv").unlink()
    with closing(sqlite3.connect(installation.database)) as old, closing(
        sqlite3.connect(installation.folder / "worklist.db.20200101-000000.backup")
    ) as copy:  # fmt: skip
        old.backup(copy)
    return installation


def test_an_erased_patient_is_in_no_file_but_the_copies_that_are_named(known: Installation) -> None:
    copy = known.folder / "worklist.db.20200101-000000.backup"
    (number,) = known.rows("select id from worklist_items where patient_id = ?", ID)[0]
    dry = pylantir(known, "purge", "--patient", ID, "--reason", "asked for", "--dry-run")
    assert dry.returncode == 0
    assert "would be erased: 1 items, 2 records, 1 reports, 1 refused records" in dry.stdout
    assert str(copy) in dry.stdout
    assert known.rows("select 1 from worklist_items where patient_id = ?", ID)
    assert pylantir(known, "purge", "--patient", ID).returncode == 2
    # No source gives any more of the patient: not even a fetch that had begun before.
    (known.folder / "clinic.csv").unlink()
    wait_until(lambda: known.process("clinic")["last_error"], "the last fetch is over")

    done = pylantir(known, "purge", "--patient", ID, "--reason", "asked for in writing")
    assert done.returncode == 0, done.stderr
    assert str(copy) in done.stdout
    assert "erased: 1 items" in done.stdout
    # The dry run's and this command's own answer stay on the operator's screen.
    wait_until(lambda: not find_traces(known.folder, {copy}), lambda: str(find_traces(known.folder, {copy})))
    assert find_traces(known.folder, set())

    (line,) = json.loads(pylantir(known, "audit", "--entry", str(number), "--json").stdout)
    assert (line["action"], line["patient_id"], line["changes"]["reason"]) == ("purged", None, "asked for in writing")
    assert len(line["changes"]["patient_hash"]) == 64
    last = pylantir(known, "explain", "--last", "PYLANTIR_TEST")
    assert ID not in last.stdout + last.stderr
    assert known.patients() == ["P1", "P2"]
    with (
        pytest.raises(sqlite3.DatabaseError, match="append-only"),
        closing(sqlite3.connect(known.database)) as database,
    ):
        database.execute("delete from audit_log")

    write(known, "clinic.csv", *OTHERS, (ID, NAME, "1933-05-17"))
    known.command("sync", "clinic")
    wait_until(lambda: known.patients() == ["P1", "P2", ID], "who is booked again is served")
    assert known.rows("select id from worklist_items where patient_id = ?", ID) != [(number,)]
    wait_until(lambda: known.process("clinic")["last_error"] is None, "the source is well")

    ((before,),) = known.rows("select id from worklist_items where patient_id = ?", ID)
    again = pylantir(known, "purge", "--patient", ID, "--reason", "asked for")
    assert "still given, so that the patient comes back with the next fetch: clinic (1 records)" in again.stdout
    served = "select id from worklist_items where patient_id = ? and id > ?"
    wait_until(lambda: known.rows(served, ID, before), "who is still booked is served anew")
