"""A short campaign of hostile bytes on the raw port."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzz.campaign import Finding, run_campaign


def test_no_hostile_bytes_crash_hang_or_fatten_the_server(tmp_path: Path) -> None:
    try:
        report = run_campaign(8, seed=2026, keep_in=tmp_path)
    except Finding as finding:
        pytest.fail(str(finding))
    assert report.attacks > 300
