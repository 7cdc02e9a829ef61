"""Fixtures that several rooms use."""

from pathlib import Path

import pytest
from dcmtk import findscu
from dicom_server import bound, quiet_dicom_libraries
from hypothesis import settings
from mariadb import mariadb_server, mariadb_url
from postgresql import postgresql_server, postgresql_url

__all__ = [
    "bound",
    "findscu",
    "mariadb_server",
    "mariadb_url",
    "postgresql_server",
    "postgresql_url",
    "quiet_dicom_libraries",
]


ROOM_OF_READERS = "docs"
"""Its tests find and end processes by the names that the pages give, so they run one after the other."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if ROOM_OF_READERS in Path(item.path).relative_to(Path(__file__).parent).parts:
            item.add_marker(pytest.mark.xdist_group("readers"))


def pytest_configure() -> None:
    # An example that waits for a busy processor is no failure.
    settings.register_profile("pylantir", deadline=None)
    settings.load_profile("pylantir")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--export-expectations", action="store_true", help="write what becomes of tests/corpus/exports anew"
    )
