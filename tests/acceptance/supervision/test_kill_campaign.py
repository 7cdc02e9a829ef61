"""Whoever is killed, and whenever: no entry is lost or doubled, no orphan is left, and scanners are answered.

`make chaos` runs the long version.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import threading
from contextlib import closing

import pytest
from installation import Installation, csv_source, plugin_source, wait_until
from kill_campaign import Campaign
from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.sop_class import ModalityWorklistInformationFind  # type: ignore[attr-defined]

from pylantir.ipc.control import ask_supervisor

KILLS = int(os.environ.get("KILLS", "25"))
SEED = int(os.environ.get("SEED", "0")) or random.SystemRandom().randrange(1, 10**6)


@pytest.mark.timeout(KILLS * 10 + 150)
def test_a_campaign_of_kills_loses_and_doubles_nothing(installation: Installation) -> None:
    print(f"seed {SEED}: SEED={SEED} KILLS={KILLS} make chaos")
    campaign = Campaign(installation, SEED)
    campaign.run(KILLS)
    assert installation.terminate() == 0
    wait_until(lambda: not installation.live_processes(), "no process is left")
    print(campaign.report())
    assert campaign.judge() == []


def test_the_oracle_notices_what_is_lost_doubled_or_made_up(installation: Installation) -> None:
    campaign = Campaign(installation, 1)
    campaign.run(0)
    assert installation.terminate() == 0
    assert campaign.judge() == []
    first, second, third = (item for (item,) in installation.rows("select id from worklist_items limit 3"))
    for damage, seen in (
        (f"delete from worklist_items where id = {first}", "not in both"),
        (f"update worklist_items set patient_id = 'a00399' where id = {second}", "doubled"),
        (f"update worklist_items set performed_procedure_step_status = 'COMPLETED' where id = {third}", "audit"),
        ("delete from mpps_instances", "reports that were answered"),
    ):
        with closing(sqlite3.connect(installation.database)) as database, database:
            database.execute(damage)
        assert any(seen in problem for problem in campaign.judge()), seen


def test_no_query_fails_while_the_writer_is_killed_and_a_source_crashes_without_end(installation: Installation) -> None:
    installation.write_csv("a.csv", ["P1", "P2"])
    installation.write_plugin("crashing", fetch="os._exit(9)")
    installation.configure(csv_source("a", "a.csv"), plugin_source("crashing"))
    installation.start(until=None)
    wait_until(lambda: len(installation.patients()) == 2, "the entries")
    entity = AE(ae_title="MR1")
    entity.add_requested_context(ModalityWorklistInformationFind)
    wanted = Dataset()
    wanted.PatientID = ""
    answers: list[tuple[int, ...]] = []
    is_over = threading.Event()

    def ask() -> None:
        while not is_over.is_set():
            association = entity.associate("127.0.0.1", installation.port)
            if not association.is_established:
                answers.append((-1,))
                continue
            responses = association.send_c_find(wanted, ModalityWorklistInformationFind)
            answers.append(tuple(status.get("Status", -2) for status, _ in responses))
            association.release()

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for _ in range(2):
            pid = installation.process("writer")["pid"]
            os.kill(pid, signal.SIGKILL)
            pid = installation.wait_for_successor("writer", pid)
            # In order, which costs no pause afterwards.
            ask_supervisor(installation.runtime_dir, {"command": "restart", "name": "writer"}, 60)
            installation.wait_for_successor("writer", pid)
        wait_until(lambda: installation.process("crashing")["restarts"] >= 3, "the source has crashed a few times")
        wait_until(lambda: len(answers) >= 4, "a few answers")
    finally:
        is_over.set()
        asking.join(120)
    assert set(answers) == {(0xFF00, 0xFF00, 0x0000)}
    told = [line for line in installation.log().splitlines() if "crashing" in line]
    assert len(told) <= 3 * (installation.process("crashing")["restarts"] + 1)
    assert installation.terminate() == 0
