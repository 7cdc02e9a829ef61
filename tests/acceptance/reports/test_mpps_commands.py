"""`test-mpps` against the real processes, and what `query-db --mpps` and `audit` show of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from installation import Installation, csv_source, wait_until

PYLANTIR = Path(sys.executable).parent / "pylantir"


def pylantir(installation: Installation, *arguments: str) -> subprocess.CompletedProcess[str]:
    command, *rest = arguments
    return subprocess.run(
        [PYLANTIR, command, "--config", installation.config_path, *rest],
        capture_output=True,
        text=True,
        env=installation.environment,
        cwd=installation.folder,
        timeout=120,
        check=False,
    )


@pytest.fixture
def running(installation: Installation) -> Installation:
    installation.write_csv("list.csv", ["P1", "P2", "P3"])
    installation.configure(csv_source("clinic", "list.csv"), mpps={"mode": "strict"})
    installation.start()
    wait_until(lambda: len(installation.patients()) == 3, "the patients are in the worklist")
    return installation


def test_a_reported_scan_is_seen_by_every_command(running: Installation) -> None:
    nothing = pylantir(running, "query-db", "--mpps")
    assert (nothing.returncode, nothing.stdout) == (0, "")
    assert "no scanner has reported anything" in nothing.stderr

    done = pylantir(running, "test-mpps", "--patient", "P1")
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()[2:]] == ["N-CREATE", "N-SET", "N-GET"]
    broken_off = pylantir(running, "test-mpps", "--patient", "P2", "--status", "DISCONTINUED", "--json")
    exchanges = json.loads(broken_off.stdout)["exchanges"]
    assert [(one["operation"], one["status"]) for one in exchanges] == [
        ("N-CREATE", "IN PROGRESS"),
        ("N-SET", "DISCONTINUED"),
        ("N-GET", "DISCONTINUED"),
    ]

    shown = pylantir(running, "query-db", "--mpps").stdout
    assert all(word in shown for word in ("P1", "COMPLETED", "P2", "DISCONTINUED", "PYLANTIR_TEST"))
    (one,) = json.loads(pylantir(running, "query-db", "--mpps", "--patient", "P1", "--json").stdout)
    assert one["attributes"]["00400340"]["Value"][0]["0008103E"]["Value"] == ["test-mpps"]
    audit = pylantir(running, "audit", "--patient", "P1").stdout
    assert "scanner:PYLANTIR_TEST" in audit
    assert "IN_PROGRESS → COMPLETED" in audit

    again = pylantir(running, "test-mpps", "--patient", "P1")
    assert (again.returncode, again.stdout) == (1, "")


def test_what_cannot_be_reported_says_why(running: Installation) -> None:
    several = pylantir(running, "test-mpps")
    assert several.returncode == 1
    assert "3 items match; choose one with --study" in several.stderr
    nobody = pylantir(running, "test-mpps", "--patient", "NOBODY")
    assert (nobody.returncode, nobody.stdout) == (1, "")
    assert "nothing on the worklist matches" in nobody.stderr
    assert running.rows("select count(*) from mpps_instances") == [(0,)]
    running.terminate()
    gone = pylantir(running, "test-mpps", "--patient", "P1")
    assert gone.returncode == 1
    assert "cannot connect" in gone.stderr
