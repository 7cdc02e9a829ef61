"""What the server keeps and tells: refusals for `status`, the last query of each title, and a report thread that is watched."""

from __future__ import annotations

import base64
import json
import socket
from pathlib import Path

import pytest
from dicom_server import ask, association, query, serving
from waiting import wait_until

from pylantir.dicom.find.answers import QueryService
from pylantir.dicom.net.acceptor import DicomServer
from pylantir.dicom.net.services import Services
from pylantir.ipc.tally import Tally
from pylantir.settings import DicomSettings
from workers.child.channel import Channel
from workers.server.last_queries import MAX_TITLES, LastQueries
from workers.server.news import TELL_EVERY_S, News
from workers.server.report_client import ReportClient

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
        assert last.tell("MR1") is None
        for wanted in ("P0", "P1"):
            with association(served) as opened:
                ask(opened, query(PatientID=wanted))
        facts = json.loads(last.tell("MR1") or "")
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
        assert len(last.titles) == MAX_TITLES
        assert last.tell("CT0") is None
        assert last.tell(f"CT{MAX_TITLES + 2}") is not None


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


def test_a_report_thread_that_dies_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rung: list[bool] = []
    client = ReportClient(tmp_path / "entries.sock", {"role": "mwl-scp"}, 1, on_failure=lambda: rung.append(True))
    try:
        client.check()

        def breaks() -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(client, "_wait", breaks)
        client._wake()
        wait_until(lambda: bool(rung), "somebody is told")
        with pytest.raises(ZeroDivisionError):
            client.check()
    finally:
        client.close()


def test_a_server_without_reports_offers_no_class_for_them() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        settings = DicomSettings()
        server = DicomServer(listener, settings, Services(query=QueryService(settings, lambda *_: ()).answer))
        assert set(server._offer.syntaxes) == {"1.2.840.10008.1.1", "1.2.840.10008.5.1.4.31"}
        server.stop(0)
