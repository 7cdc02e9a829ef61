"""Fixtures of the acceptance tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from installation import Installation


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    """Give an empty installation, and end whatever is started in it."""
    made = Installation(tmp_path)
    yield made
    made.close()
