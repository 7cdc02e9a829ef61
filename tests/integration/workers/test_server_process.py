"""What the server keeps and tells: refusals for `status`, the last query of each title, and a report thread that is watched."""

from __future__ import annotations

import base64
import json
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dicom_server import ask, association, query, serving
from waiting import wait_until

from pylantir.dicom.find.answers import QueryService
from pylantir.dicom.net.acceptor import DicomServer
from pylantir.dicom.net.services import Services
from pylantir.errors import StoreError
from pylantir.ipc.tally import Tally
from pylantir.settings import DicomSettings
from workers.child.channel import Channel
from workers.server.last_queries import MAX_TITLES, LastQueries
from workers.server.news import TELL_EVERY_S, News

pytestmark = pytest.mark.usefixtures("quiet_dicom_libraries")


def test_what_is_refused_is_told_at_a_rate_that_no_stranger_sets() -> None:
    now = [100.0]
    news = News(clock=lambda: now[0])
    ours, theirs = socket.socketpair()
    with ours, theirs:
        channel = Channel(ours)
        for number in range(50):
            news.ring()
            news.notice()
            news.tell(channel, {"no place": number}, 0, Tally())
        assert news.pause_s() == TELL_EVERY_S
        now[0] += TELL_EVERY_S
        news.tell(channel, {"no place": 49}, 0, Tally())
        assert news.pause_s() is None
        told = theirs.recv(65536)
    assert told.count(b'"refusals"') == 2
    assert b'"no place":49' in told


def test_a_worklist_that_cannot_be_read_is_told_once_the_tables_are_made() -> None:
    now = [100.0]
    news = News(clock=lambda: now[0])
    ours, theirs = socket.socketpair()

    def look(meanwhile: Callable[[], None] = lambda: None) -> None:
        with news.watched():
            meanwhile()
            raise StoreError("there is no worklist")

    def told() -> object:
        now[0] += 1
        news.tell(Channel(ours), {}, 0, Tally())
        (length,) = struct.unpack("!I", theirs.recv(4))
        return json.loads(theirs.recv(length))["values"]["database"]

    with ours, theirs:
        with pytest.raises(StoreError):
            look()
        assert news.trouble
        assert told() is None
        # A read that began before the tables were made may fail after.
        with pytest.raises(StoreError):
            look(news.note_prepared)
        news.ring()
        news.notice()
        assert told() is None
        with pytest.raises(StoreError):
            look()
        news.notice()
        assert told() == "the worklist is not served: there is no worklist"
        with news.watched():
            pass
        news.notice()
        assert told() is None


def test_the_last_query_of_each_title_is_kept_with_its_association(bound: socket.socket) -> None:
    with serving(
        bound,
        lambda _query: [
            {
                "id": 1,
                "patient_id": "P1",
                "modality": "MR",
                "scheduled_start_date": "20300101",
                "scheduled_start_time": "080000",
            }
        ],
    ) as served:
        last = LastQueries(served.server._services.query, Tally())
        served.server._services = Services(query=last.answer)
        assert last.of("MR1") is None
        for wanted in ("P0", "P1"):
            with association(served) as opened:
                ask(opened, query(PatientID=wanted))
        facts: Any = last.of("MR1")
    assert facts["address"] == "127.0.0.1"
    assert (facts["calling"], facts["called"]) == ("MR1", "ANY-SCP")
    assert (facts["matches"], facts["status"]) == (1, 0)
    assert facts["implementation_version"].startswith("PYNETDICOM")
    assert facts["transfer_syntax"] == "1.2.840.10008.1.2.1"
    assert b"P1" in base64.b64decode(facts["identifier"])


def test_no_more_titles_are_kept_than_a_hospital_has(bound: socket.socket) -> None:
    with serving(bound, lambda _query: ()) as served:
        last = LastQueries(served.server._services.query, Tally())
        served.server._services = Services(query=last.answer)
        for number in range(MAX_TITLES + 3):
            with association(served, calling=f"CT{number}") as opened:
                ask(opened, query())
        assert len(last.overview()) == MAX_TITLES
        assert last.of("CT0") is None
        assert last.of(f"CT{MAX_TITLES + 2}") is not None


def test_an_exception_in_one_association_ends_that_one_alone(
    bound: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    patient = "Secret^Patient"

    def fails(_exchange: object) -> None:
        raise ZeroDivisionError(patient)

    with serving(bound, lambda _query: ()) as served:
        whole = served.server._services
        served.server._services = Services(query=fails)
        with association(served) as opened:
            ask(opened, query())
            wait_until(lambda: opened.is_aborted, "it is aborted")
        served.server._services = whole
        with association(served) as opened:
            assert opened.send_c_echo().Status == 0
        assert served.server.refusals["internal error"] == 1
    assert "ZeroDivisionError" in caplog.text
    assert "Secret" not in caplog.text


REPORT_THREAD = """\
import logging, sys, threading
from pathlib import Path
from workers.child.report_client import ReportClient
logging.basicConfig()
client = ReportClient(Path(sys.argv[1]), {"role": "web"}, 1)
del client._writer
client._wake()
threading.Event().wait(60)
"""


def test_a_report_thread_that_dies_ends_its_process(tmp_path: Path) -> None:
    command = [sys.executable, "-c", REPORT_THREAD, tmp_path / "entries.sock"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert "thread reports: stopped by an unexpected error; the process will be restarted" in ended.stderr


def test_a_server_without_reports_offers_no_class_for_them() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        settings = DicomSettings()
        server = DicomServer(listener, settings, Services(query=QueryService(settings, lambda *_: ()).answer))
        assert set(server._offer.syntaxes) == {"1.2.840.10008.1.1", "1.2.840.10008.5.1.4.31"}
        server.stop(0)
