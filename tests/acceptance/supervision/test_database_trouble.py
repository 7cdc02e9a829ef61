"""A disk that is full, a database that is locked, gone, broken or read-only: said, survived, and over when mended."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from installation import PATIENT_COMMAND, Installation, csv_source, own_disk, wait_until
from scanner import beginning, connected, create


@pytest.fixture
def disk(installation: Installation) -> Iterator[Path]:
    """A small disk of its own for the database."""
    with own_disk(installation, "4m") as folder:
        yield folder


def begin(installation: Installation, *patients: str) -> None:
    installation.write_csv("a.csv", patients or ["P1"])
    installation.configure(csv_source("a", "a.csv"), mpps={"timeout": 1})
    installation.start(program=PATIENT_COMMAND)


def report(installation: Installation, uid: str) -> int:
    """Report the beginning of a scan; the status that the scanner gets."""
    with connected(installation.port) as association:
        return int(create(association, uid, beginning("9.9")).Status)


def assert_waiting(installation: Installation, said: str) -> None:
    """The status says what is wrong with the database, within the time in which somebody would look."""

    def is_told() -> bool:
        status = installation.status()
        writer = next((one for one in status.get("processes", ()) if one["name"] == "writer"), {})
        return said in str(writer.get("last_error")) and status["health"] == "degraded"

    wait_until(is_told, lambda: f"{said}: {installation.process('writer')}")


def assert_mended(installation: Installation, *patients: str) -> None:
    wait_until(lambda: installation.patients() == [*patients], lambda: f"{patients}: {installation.log()[-2000:]}")
    installation.wait_for_health("healthy")
    assert installation.rows("pragma integrity_check") == [("ok",)]


def seen(installation: Installation, findscu: str) -> list[str]:
    return sorted(answer["PatientID"] for answer in installation.find(findscu))


def test_a_full_disk(installation: Installation, disk: Path, findscu: str) -> None:
    begin(installation)
    ballast = disk / "ballast"
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    patients = [f"P{number:05d}" for number in range(2000)]
    installation.write_csv("a.csv", ["P1", *patients])
    assert_waiting(installation, "full")
    wait_until(lambda: (installation.process("writer").get("queue_depth") or 0) > 0, "status says what waits")
    assert report(installation, "2.25.1") == 0x0213
    assert seen(installation, findscu) == ["P1"]
    ballast.unlink()
    disk_size = "remount,size=64m"
    subprocess.run(["mount", "-o", disk_size, disk], check=True)
    assert_mended(installation, *sorted(["P1", *patients]))
    # A second is soon over on a busy machine; what was stored all the same is no duplicate.
    wait_until(lambda: report(installation, "2.25.2") == 0x0000, "a report is stored")
    assert installation.rows("select sop_instance_uid from mpps_instances") == [("2.25.2",)]
    assert installation.process("writer")["restarts"] == 0


def test_a_read_only_disk(installation: Installation, disk: Path, findscu: str) -> None:
    begin(installation)
    installation.terminate()
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    installation.start(until=None)
    assert_waiting(installation, "ead-only")
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    installation.write_csv("a.csv", ["P1", "P2"])
    assert_mended(installation, "P1", "P2")
    assert seen(installation, findscu) == ["P1", "P2"]


def test_a_database_that_another_program_locks(installation: Installation, findscu: str) -> None:
    begin(installation)
    with closing(sqlite3.connect(installation.database, isolation_level=None, timeout=120)) as other:
        other.execute("begin immediate")
        installation.write_csv("a.csv", ["P1", "P2"])
        assert_waiting(installation, "locked")
        assert seen(installation, findscu) == ["P1"]
        other.execute("rollback")
    assert_mended(installation, "P1", "P2")
    assert installation.process("writer")["restarts"] == 0


def test_a_database_that_is_removed_is_made_anew_and_filled(installation: Installation, findscu: str) -> None:
    begin(installation)
    with installation.standing_still("writer", "mwl-scp"):
        for suffix in ("", "-wal", "-shm"):
            installation.database.with_name(f"worklist.db{suffix}").unlink()
    assert_mended(installation, "P1")
    installation.wait_for_log("the database file was removed or replaced")
    assert seen(installation, findscu) == ["P1"]


def test_a_backup_that_is_put_in_the_databases_place_is_used(installation: Installation, findscu: str) -> None:
    begin(installation)
    backup = installation.folder / "backup"
    with closing(sqlite3.connect(installation.database)) as source, closing(sqlite3.connect(backup)) as target:
        source.backup(target)
    installation.write_csv("a.csv", ["P1", "P2"])
    wait_until(lambda: installation.patients() == ["P1", "P2"], "the next entry")
    with installation.standing_still("writer", "mwl-scp"):
        for suffix in ("-wal", "-shm"):
            installation.database.with_name(f"worklist.db{suffix}").unlink()
        backup.replace(installation.database)
    installation.wait_for_log("the database file was removed or replaced")
    assert_mended(installation, "P1", "P2")
    assert seen(installation, findscu) == ["P1", "P2"]


def test_a_corrupted_database_is_told_until_a_backup_is_put_in_its_place(
    installation: Installation, findscu: str
) -> None:
    begin(installation)
    installation.terminate()
    good = installation.database.read_bytes()
    installation.database.write_bytes(os.urandom(len(good)))
    installation.start(until=None)
    assert_waiting(installation, "not a database")
    # A scanner that asks meanwhile is refused, and the server says so, too.
    assert seen(installation, findscu) == []
    wait_until(lambda: "not served" in str(installation.process("mwl-scp")["last_error"]), "the server's word")
    backup = installation.folder / "backup"
    backup.write_bytes(good)
    backup.replace(installation.database)
    assert_mended(installation, "P1")
    assert seen(installation, findscu) == ["P1"]
