"""Fixtures that several rooms use."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from dcmtk import findscu
from dicom_server import bound, quiet_dicom_libraries
from hypothesis import settings
from mariadb import mariadb_server, mariadb_url
from postgresql import postgresql_server, postgresql_url
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import DIMSEPrimitive

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


@pytest.hookimpl(tryfirst=True)  # xdist looks at the marks in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if ROOM_OF_READERS in Path(item.path).relative_to(Path(__file__).parent).parts:
            item.add_marker(pytest.mark.xdist_group("readers"))


@pytest.fixture(scope="session", autouse=True)
def no_scanner_loses_an_answer() -> Iterator[None]:
    """Give back to pynetdicom's caller an answer that its own thread has taken.

    The thread of a requestor pauses while a request waits for its answer. On a busy machine it can wake between two
    requests so late that the second takes it for paused; it then takes the answer and drops it as no request.
    """
    serve = Association._serve_request

    def give_back(association: Association, message: DIMSEPrimitive, context_id: int) -> None:
        if message.is_valid_request:
            serve(association, message, context_id)
        else:
            association.dimse.msg_queue.put((context_id, message))

    patch = pytest.MonkeyPatch()
    patch.setattr(Association, "_serve_request", give_back)
    yield
    patch.undo()


def pytest_configure() -> None:
    # An example that waits for a busy processor is no failure.
    settings.register_profile("pylantir", deadline=None)
    settings.load_profile("pylantir")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    # A long run names what failed at once, not only at its end.
    if report.failed and "PYTEST_XDIST_WORKER" not in os.environ:
        print(f"\n{report.nodeid} failed", file=sys.stderr)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--export-expectations", action="store_true", help="write what becomes of tests/corpus/exports anew"
    )
