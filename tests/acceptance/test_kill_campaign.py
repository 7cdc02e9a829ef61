"""Whoever is killed, and whenever: no entry is lost or doubled, no orphan is left, and scanners are answered.

`make chaos` runs the long version.
"""

from __future__ import annotations

import os
import random
import signal
import threading

import pytest
from installation import Installation, csv_source, plugin_source, wait_until
from kill_campaign import Campaign
from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.sop_class import ModalityWorklistInformationFind  # type: ignore[attr-defined]

KILLS = int(os.environ.get("KILLS", "25"))
SEED = int(os.environ.get("SEED", "0")) or random.SystemRandom().randrange(1, 10**6)


@pytest.mark.timeout(KILLS * 10 + 150)
def test_a_campaign_of_kills_loses_and_doubles_nothing(installation: Installation) -> None:
    print(f"seed {SEED}: SEED={SEED} KILLS={KILLS} make chaos")
    campaign = Campaign(installation, SEED)
    campaign.run(KILLS)
    assert installation.terminate(15) == 0
    wait_until(lambda: not installation.live_processes(), "no process is left", 3)
    print(campaign.report())
    assert campaign.judge() == []


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
        for _ in range(8):
            pid = installation.process("writer")["pid"]
            os.kill(pid, signal.SIGKILL)
            installation.wait_for_successor("writer", pid)
    finally:
        is_over.set()
        asking.join(30)
    assert len(answers) > 20
    assert set(answers) == {(0xFF00, 0xFF00, 0x0000)}
    assert installation.terminate() == 0
