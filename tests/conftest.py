"""Fixtures that several folders of tests use."""

import os
import sys
from collections.abc import Iterator
from typing import Any

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


TOGETHER = (
    # They find and end processes by the names that the pages give.
    "tests/docs/",
    # They share what is dear to start: a browser, an environment of Python, a writer.
    "tests/acceptance/web/test_browser.py",
    "tests/integration/sources/test_plugin_package.py",
    "tests/integration/workers/test_entry_queue.py",
)
"""Tests that run in one worker, one after the other."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep together what belongs together; xdist's own marks for that have no effect with pytest 9.2."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return next((place for place in TOGETHER if nodeid.startswith(place)), nodeid)

    return Scheduling(config, log)


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
