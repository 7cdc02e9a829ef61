"""Who was shown what, from a real instance: each answer is a row, and no answer waits for it."""

from __future__ import annotations

import csv
import getpass
import io
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
from dcmtk import find_worklist
from installation import Installation, csv_source, wait_until
from ports import free_port
from scanner import beginning, connected, create, retrieve

PYLANTIR = Path(sys.executable).parent / "pylantir"
USER = getpass.getuser()
COLUMNS = "service, peer, address, asked, status, matches, item_ids, count"


def run(installation: Installation, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command from the folder above the configuration's, which it names by a relative path."""
    folder = installation.folder.parent
    return subprocess.run(
        [PYLANTIR, command, "--config", installation.config_path.relative_to(folder), *arguments],
        capture_output=True, text=True, check=False, timeout=120, env=installation.environment, cwd=folder,
    )  # fmt: skip


def logged(installation: Installation) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """What was asked, by whom, from where -> how it was answered, which items, how often."""
    rows = installation.rows(f"select {COLUMNS} from access_log order by id")
    return {row[:4]: (row[4], row[5], json.loads(row[6]), row[7]) for row in rows}


def wait_for(installation: Installation, answers: Mapping[tuple[Any, ...], tuple[Any, ...]]) -> None:
    """Wait until these rows are there; who asks again may be counted a little later."""
    wait_until(lambda: answers.items() <= logged(installation).items(), lambda: f"{answers} in {logged(installation)}")


def test_each_answer_that_shows_patients_is_recorded(installation: Installation, findscu: str) -> None:
    installation.write_csv("a.csv", ["P1", "P2", "P3"])
    http_port = free_port()
    installation.configure(csv_source("a", "a.csv"), http={"port": http_port})
    installation.start()
    wait_until(lambda: len(installation.patients()) == 3, "three patients")
    numbers = dict(installation.rows("select patient_id, id from worklist_items"))
    first, every = numbers["P1"], sorted(numbers.values())
    ((study,),) = installation.rows("select study_instance_uid from worklist_items where id = ?", first)

    def ask(*keys: str) -> int:
        return len(find_worklist(findscu, installation.port, installation.folder, *keys, calling="MR1"))

    # Scanners are answered though the writer stands still; it stores what they were shown later.
    with installation.standing_still("writer"):
        assert [ask("PatientName", "PatientID=P1") for _ in range(2)] == [1, 1]
        assert ask("PatientName=NAME*", "ScheduledProcedureStepSequence[0].Modality=MR") == 3
        assert ask("AccessionNumber=A9") == 0
        assert logged(installation) == {}
    scanner = ("MR1", "127.0.0.1")
    by_id, by_name, by_number = (
        ("C-FIND", *scanner, asked) for asked in ("PatientID", "Modality, PatientName", "AccessionNumber")
    )
    shown = {by_id: ("0000", 1, [first], 2), by_name: ("0000", 3, every, 1), by_number: ("0000", 0, [], 1)}
    wait_for(installation, shown)

    with connected(installation.port) as association:
        assert create(association, "1.2.3.9", beginning(study)).Status == 0
        assert retrieve(association, "1.2.3.9", 0x00100010)[0].Status == 0
    with httpx.Client(base_url=f"http://127.0.0.1:{http_port}", timeout=20) as client:
        day = {"date": "2030-01-01", "patient": "P2"}
        assert [client.get("/", params=day).status_code for _ in range(2)] == [200, 200]
        assert client.get(f"/items/{first}").status_code == client.get("/sources").status_code == 200
        assert client.get("/scanners", params={"scanner": "MR1", "item": str(first)}).status_code == 200
        steps = "/dicomweb/modality-scheduled-procedure-steps"
        assert len(client.get(steps, params={"PatientID": "P3", "limit": "5"}).json()) == 1
        assert client.get("/dicomweb/modality-performed-procedure-steps/1.2.3.9").status_code == 200
        assert client.get("/items/999999").status_code == 404
    retrieved = ("N-GET", *scanner, "PatientName")
    web = ("web", "127.0.0.1")
    pages = {
        ("page", *web, "/?date&patient"): ("200", 1, [numbers["P2"]], 2),
        ("page", *web, f"/items/{first}"): ("200", 1, [first], 1),
        ("page", *web, "/items/999999"): ("404", 0, [], 1),
        ("page", *web, "/sources"): ("200", 0, [], 1),
        ("page", *web, "/scanners?scanner&item"): ("200", 1, [first], 1),
        ("DICOMweb", *web, f"{steps}?PatientID&limit"): ("200", 1, [numbers["P3"]], 1),
        ("DICOMweb", *web, "/dicomweb/modality-performed-procedure-steps/1.2.3.9"): ("200", 1, [first], 1),
    }
    wait_for(installation, {retrieved: ("0000", 1, [first], 1), **pages})

    # A command's row is there when the command has ended.
    assert run(installation, "query-db", "--patient", "P1", "--json").returncode == 0
    assert run(installation, "audit", "--patient", "P2").returncode == 0
    assert run(installation, "explain", str(first)).stderr == ""
    assert run(installation, "preview", "a").returncode == 0
    found = logged(installation)
    for command, asked, items, matches in (
        ("query-db", "patient", [first], 1),
        ("audit", "patient", [numbers["P2"]], 1),
        ("explain", "item", [first], 1),
        ("preview", "source", [], 3),
    ):
        status, number, item_ids, count = found[f"command {command}", USER, "localhost", asked]
        assert (number, item_ids, count) == (matches, items, 1)
        assert status in {"0", "1"}

    told = json.loads(run(installation, "access", "--patient", "P2", "--json").stdout)
    assert {row["service"] for row in told} == {"C-FIND", "page", "command audit"}
    assert all(numbers["P2"] in row["item_ids"] for row in told)
    assert list(told[0]) == [
        "id", "at", "last_at", "count", "service", "address", "peer", "certificate", "asked", "status", "matches",
        "item_ids",
    ]  # fmt: skip
    table = csv.DictReader(io.StringIO(run(installation, "access", "--scanner", "MR1", "--csv").stdout))
    assert {(row["service"], row["peer"]) for row in table} == {("C-FIND", "MR1"), ("N-GET", "MR1")}
    assert "nobody was shown anything" in run(installation, "access", "--since", "2100-01-01").stderr
    assert "P1" not in json.dumps(installation.rows("select * from access_log"))
    last = run(installation, "access", "--scanner", USER).stdout.splitlines()[-1]
    assert last == "    command preview for source: status 0, 3 shown"


def test_nothing_is_recorded_where_the_configuration_says_so(installation: Installation, findscu: str) -> None:
    installation.write_csv("a.csv", ["P1"])
    installation.configure(csv_source("a", "a.csv"), access={"log": False})
    installation.start()
    wait_until(installation.patients, "a patient")
    assert len(installation.find(findscu)) == 1
    assert run(installation, "query-db").returncode == 0
    assert installation.terminate() == 0
    assert logged(installation) == {}
    # Without a supervisor, a command works as before.
    done = run(installation, "query-db", "--json")
    assert (done.returncode, done.stderr) == (0, "")
