"""System calls that fail once: afterwards everything is whole, or has ended with a status that starts it anew."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from installation import Installation

from .campaign import Campaign


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    made = Installation(tmp_path)
    yield made
    made.close()


def test_a_call_that_fails_leaves_everything_whole_or_ended(installation: Installation) -> None:
    campaign = Campaign(installation, seed=1)
    campaign.run(faults=12, until=time.monotonic() + 30)
    assert not campaign.problems, "\n\n".join(campaign.problems)
    assert campaign.fired.total() >= 1


@pytest.mark.skipif("FAULTS" not in os.environ, reason="make faults: takes minutes")
@pytest.mark.timeout(0)
def test_a_campaign(installation: Installation) -> None:
    campaign = Campaign(installation, seed=int(os.environ.get("SEED", "0")))
    campaign.run(int(os.environ["FAULTS"]))
    print(campaign.report())
    assert not campaign.problems, "\n\n".join(campaign.problems)
