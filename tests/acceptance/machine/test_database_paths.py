"""Paths of the database that would mean something else in a URL, and what the server says of a database at its start."""

from __future__ import annotations

import pytest
from installation import Installation, csv_source, wait_until


@pytest.mark.parametrize("name", ["what?.db", "site#1.db", "100%41.db", "mode=ro&x.db"])
def test_a_path_means_what_it_says(installation: Installation, findscu: str, name: str) -> None:
    folder = installation.folder / "data"
    folder.mkdir()
    installation.write_csv("a.csv", ["P1"])
    installation.configure(csv_source("a", "a.csv"), db_path=str(folder / name))
    installation.start()
    assert [answer["PatientID"] for answer in installation.find(findscu)] == ["P1"]
    assert {path.name for path in folder.iterdir()} == {name, *(f"{name}{side}" for side in ("-wal", "-shm", ".lock"))}
    installation.terminate()
    assert [path.name for path in folder.iterdir()] == [name]


def test_the_server_says_that_it_cannot_read_though_nobody_has_asked(installation: Installation) -> None:
    installation.write_csv("a.csv", ["P1"])
    installation.configure(csv_source("a", "a.csv"))
    installation.database.write_bytes(b"no database" * 1000)
    installation.start(until=None)
    wait_until(lambda: "not served" in str(installation.process("mwl-scp").get("last_error")), "the server's word")
    assert installation.status()["health"] == "degraded"
