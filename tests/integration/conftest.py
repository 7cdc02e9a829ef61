"""A worklist database for tests that must hold on SQLite and PostgreSQL alike."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from pylantir.store.schema.engine import open_for_writing
from pylantir.store.schema.upgrade import prepare_database


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'worklist.db'}"
    else:
        url = request.getfixturevalue("postgresql_url")
    engine = open_for_writing(url)
    prepare_database(engine)
    yield engine
    engine.dispose()
