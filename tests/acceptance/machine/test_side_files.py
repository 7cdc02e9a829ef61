"""The write-ahead log is removed while everything runs: nothing that was answered is lost, and scanners are served."""

from __future__ import annotations

import pytest
from installation import Installation, csv_source, wait_until
from scanner import beginning, connected, create


@pytest.mark.parametrize("sides", [("-wal",), ("-shm",), ("-wal", "-shm")])
def test_reports_answered_before_are_there_after_a_restart(
    installation: Installation, findscu: str, sides: tuple[str, ...]
) -> None:
    installation.write_csv("a.csv", ["P1"])
    installation.configure(csv_source("a", "a.csv", sync_interval=3600))
    installation.start()
    with connected(installation.port) as association:
        for number in range(5):
            assert create(association, f"2.25.{number + 1}", beginning(f"9.{number}")).Status == 0
    with installation.standing_still("writer", "mwl-scp"):
        for side in sides:
            installation.database.with_name(f"worklist.db{side}").unlink()

    def is_served() -> bool:
        return "P1" in [answer["PatientID"] for answer in installation.find(findscu)]

    # A reader does not make anew what the writer still uses: they would no longer understand each other.
    assert is_served()
    with connected(installation.port) as association:
        create(association, "2.25.99", beginning("9.99"))
    wait_until(is_served, "queries are answered")
    installation.wait_for_health("healthy")
    installation.terminate()
    installation.start()
    known = {uid for (uid,) in installation.rows("select sop_instance_uid from mpps_instances")}
    assert known >= {f"2.25.{number + 1}" for number in range(5)}
    assert installation.rows("pragma integrity_check") == [("ok",)]
