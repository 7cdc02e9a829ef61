"""System calls that fail once: afterwards everything is whole, or has ended with a status that starts it anew."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from installation import Installation, wait_until

from .campaign import Campaign


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    made = Installation(tmp_path)
    yield made
    made.close()


def test_a_call_that_fails_leaves_everything_whole_or_ended(installation: Installation) -> None:
    campaign = Campaign(installation, seed=1)
    campaign.run(faults=12, for_s=25)
    assert not campaign.problems, "\n\n".join(campaign.problems)
    assert campaign.fired


@pytest.mark.parametrize("name", ["a", "mwl-scp", "writer"])
def test_what_raises_in_a_process_s_loop_ends_it_with_a_traceback_and_another_goes_on(
    installation: Installation, name: str
) -> None:
    campaign = Campaign(installation, seed=1)
    campaign.run(faults=0)
    pid = installation.process(name)["pid"]
    campaign.order(str(pid), json.dumps({"call": "select", "number": errno.ENOMEM, "after": 0}))
    installation.wait_for_successor(name, pid)
    assert installation.process(name)["last_exit"] == "status 1"
    assert "unexpected error" in installation.log()
    assert "Cannot allocate memory" in installation.log()
    installation.wait_for_health("healthy")


def test_what_raises_in_the_supervisor_s_loop_ends_everything_and_a_new_start_is_whole(
    installation: Installation,
) -> None:
    campaign = Campaign(installation, seed=1)
    campaign.run(faults=0)
    assert installation.supervisor
    campaign.order(str(installation.supervisor.pid), json.dumps({"call": "select", "number": errno.ENOMEM, "after": 0}))
    assert installation.supervisor.wait(120) == 1
    wait_until(lambda: not installation.live_processes(), "no process is left")
    installation.start()


@pytest.mark.skipif("FAULTS" not in os.environ, reason="make faults: takes minutes")
@pytest.mark.timeout(0)
def test_a_campaign(installation: Installation) -> None:
    campaign = Campaign(installation, seed=int(os.environ.get("SEED", "0")))
    campaign.run(int(os.environ["FAULTS"]))
    print(campaign.report())
    assert not campaign.problems, "\n\n".join(campaign.problems)
