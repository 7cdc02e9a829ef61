"""The worklist server on a real socket with a real database, asked by pynetdicom and by DCMTK."""

from __future__ import annotations

import logging
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path

import pytest
from dicom_server import Items, Served, ask, association, query, serving
from fuzz.seeds import associate_request
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.dimse_primitives import C_FIND
from pynetdicom.sop_class import ModalityWorklistInformationFind
from raw_scanner import RawScanner
from sqlalchemy import Engine, insert
from waiting import wait_until

from pylantir.errors import StoreError
from pylantir.query import WorklistQuery
from pylantir.settings import ScannerProfile, ServingSettings
from pylantir.store.read.worklist import find_matching
from pylantir.store.schema.engine import open_for_reading, open_for_writing
from pylantir.store.schema.tables import metadata, worklist_items

pytestmark = pytest.mark.usefixtures("quiet_dicom_libraries")


ITEMS = [
    {"patient_id": "P1", "patient_name": "Doe^Jane", "scheduled_start_date": "20260105", "modality": "MR"},
    {"patient_id": "P2", "patient_name": "Łęcki^Stanisław", "scheduled_start_date": "20260106", "modality": "MR"},
    {"patient_id": "P3", "patient_name": "Doe^John", "scheduled_start_date": "20260106", "modality": "CT"},
    {
        "patient_id": "P4",
        "scheduled_start_date": "20260106",
        "performed_procedure_step_status": "COMPLETED",
        "scheduled_station_aetitle": "CT9",
    },
]


def store_items(path: Path, items: list[dict[str, str]]) -> Engine:
    url = f"sqlite:///{path}"
    writer = open_for_writing(url)
    metadata.create_all(writer)
    common = {
        "patient_name": None,
        "modality": "MR",
        "scheduled_start_time": "093000",
        "performed_procedure_step_status": "SCHEDULED",
        "scheduled_station_aetitle": "MR1",
    }
    with writer.begin() as connection:
        rows = [{**common, "study_instance_uid": f"2.25.{number}", **item} for number, item in enumerate(items, 1)]
        connection.execute(insert(worklist_items), rows)
    writer.dispose()
    return open_for_reading(url)


def find_in(engine: Engine) -> Items:
    def find(query: WorklistQuery) -> Iterator[Mapping[str, object]]:
        with engine.connect() as connection:
            yield from find_matching(connection, query)

    return find


@pytest.fixture
def served(bound: socket.socket, tmp_path: Path) -> Iterator[Served]:
    engine = store_items(tmp_path / "worklist.db", ITEMS)
    with serving(bound, find_in(engine)) as running:
        yield running
    engine.dispose()


def patients(served: Served, identifier: Dataset, **how: str) -> list[str]:
    with association(served, **how) as opened:
        found, statuses = ask(opened, identifier)
    assert statuses[-1].Status == 0x0000
    return [str(answer.PatientID) for answer in found]


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_echo_and_a_query_for_everything_that_is_served(served: Served, syntax: str) -> None:
    with association(served, syntax=syntax) as opened:
        assert opened.send_c_echo().Status == 0x0000
        found, statuses = ask(opened, query(PatientName=None))
    assert [answer.PatientID for answer in found] == ["P1", "P2", "P3"]
    assert [str(answer.PatientName) for answer in found] == ["Doe^Jane", "Łęcki^Stanisław", "Doe^John"]
    assert [status.Status for status in statuses] == [0xFF00] * 3 + [0x0000]
    assert "SpecificCharacterSet" not in found[0]
    assert found[1].SpecificCharacterSet == "ISO_IR 192"


@pytest.mark.parametrize(
    ("identifier", "expected"),
    [
        (query(PatientID="P2"), ["P2"]),
        (query(PatientName="DOE*"), ["P1", "P3"]),
        (query(PatientName="łĘCKI^*", SpecificCharacterSet="ISO_IR 192"), ["P2"]),
        (query(PatientName="ŁĘCKI*", SpecificCharacterSet="ISO_IR 101"), ["P2"]),
        (query({"ScheduledProcedureStepStartDate": "20260106", "Modality": "CT"}), ["P3"]),
        (query({"ScheduledProcedureStepStartDate": "20260105-20260105"}), ["P1"]),
        (
            query(
                {
                    "ScheduledProcedureStepStartDate": "20260105-20260106",
                    "ScheduledProcedureStepStartTime": "1000-1100",
                }
            ),
            ["P2", "P3"],
        ),
        (query({"ScheduledProcedureStepStartTime": "0930", "ScheduledStationAETitle": "MR1"}), ["P1", "P2", "P3"]),
        (query({"ScheduledStationAETitle": "CT9"}), []),
        (query({"ScheduledProcedureStepStatus": "COMPLETED"}), ["P4"]),
        (query(StudyInstanceUID=["2.25.1", "2.25.3"]), ["P1", "P3"]),
    ],
)
def test_keys_select(served: Served, identifier: Dataset, expected: list[str]) -> None:
    assert patients(served, identifier) == expected


def test_an_unknown_key_gives_a_warning_status_and_comes_back_empty(served: Served) -> None:
    with association(served) as opened:
        found, statuses = ask(opened, query(PatientID="P1", SeriesDescription=None))
    assert [status.Status for status in statuses] == [0xFF01, 0x0000]
    assert found[0]["SeriesDescription"].is_empty


def test_a_broken_identifier_is_refused_with_its_element_and_the_association_goes_on(served: Served) -> None:
    broken = query()
    broken.ScheduledProcedureStepSequence = [Dataset(), Dataset()]
    with association(served) as opened:
        found, (status,) = ask(opened, broken)
        assert (status.Status, status.OffendingElement) == (0xA900, 0x00400100)
        assert "one item" in status.ErrorComment
        assert found == []
        assert len(ask(opened, query())[0]) == 3


@pytest.mark.parametrize(
    ("calling", "wanted", "expected"),
    [
        ("MR1", "MR1", ["P1", "P3"]),
        ("MR1", "MR2", ["P2"]),
        ("MR1", "MR*", ["P1", "P2", "P3"]),
        ("CT1", "MR1", ["P1"]),
        ("CT1", "MR*", ["P1", "P2"]),
        ("CT1", "CT1", ["P3"]),
    ],
)
def test_a_scanner_finds_by_its_own_title_what_is_planned_for_no_station(
    bound: socket.socket, tmp_path: Path, calling: str, wanted: str, expected: list[str]
) -> None:
    stations = {"P1": "MR1", "P2": "MR2", "P3": ""}
    items = [
        {"patient_id": patient, "scheduled_station_aetitle": station, "scheduled_start_date": "20260105"}
        for patient, station in stations.items()
    ]
    engine = store_items(tmp_path / "worklist.db", items)
    with serving(bound, find_in(engine)) as served:
        assert patients(served, query({"ScheduledStationAETitle": wanted}), calling=calling) == expected
    engine.dispose()


NESTED = b"\x08\x00\x10\x11\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"


@pytest.mark.parametrize(
    "identifier",
    [
        NESTED * 2000,
        NESTED * 100 + b"\x10\x00\x20\x00\x00\x00\x00\x00",
        b"\x40\x00\x00\x01\x04\x00\x00\x00text",
        b"\x10\x00\x20\x00\xff\xff\xff\x7fP1",
        b"\x08\x00",
        b"\x10\x00\x20\x00\x04\x00\x00\x00P001\x10\x00\x20\x00\x00\x00\x00\x00",
    ],
    ids=["endless nesting", "deep nesting", "text for a sequence", "cut short", "no element", "an element twice"],
)
def test_hostile_bytes_are_answered_and_the_association_goes_on(served: Served, identifier: bytes) -> None:
    request = C_FIND()
    request.MessageID = 1
    request.AffectedSOPClassUID = ModalityWorklistInformationFind
    request.Priority = 2
    request.Identifier = BytesIO(identifier)
    with association(served, syntax=ImplicitVRLittleEndian) as opened:
        contexts = {context.abstract_syntax: context.context_id for context in opened.accepted_contexts}
        opened._reactor_checkpoint.clear()
        opened.dimse.send_msg(request, contexts[ModalityWorklistInformationFind])
        _, response = opened.dimse.get_msg(block=True)
        opened._reactor_checkpoint.set()
        assert response.Status == 0xA900
        assert opened.send_c_echo().Status == 0x0000


def test_only_allowed_stations_get_an_association(bound: socket.socket) -> None:
    with serving(bound, lambda _query: (), allowed_aet=("MR1", "MR2")) as served:
        # On a bare socket: pynetdicom as client may miss a rejection.
        with socket.create_connection(("127.0.0.1", served.port), timeout=10) as stranger:
            stranger.sendall(associate_request(calling="STRANGER"))
            answer = b"".join(iter(lambda: stranger.recv(64), b""))
        assert (answer[0], answer[-1]) == (0x03, 0x03)
        with association(served, calling="MR2") as opened:
            assert opened.send_c_echo().Status == 0x0000


@pytest.mark.parametrize(("error", "status"), [(StoreError("no database"), 0xA700), (KeyError("Secret^Name"), 0xC001)])
@pytest.mark.parametrize("after", [0, 2])
def test_a_failing_search_is_answered_with_a_failure_and_logged_without_patient_data(
    bound: socket.socket, caplog: pytest.LogCaptureFixture, error: Exception, status: int, after: int
) -> None:
    item = {"id": 1, "patient_id": "Secret", "modality": "MR"}

    def find(_query: WorklistQuery) -> Iterator[Mapping[str, object]]:
        yield from [item] * after
        raise error

    with caplog.at_level(logging.DEBUG), serving(bound, find) as served, association(served) as opened:
        found, statuses = ask(opened, query(PatientName="Secret*"))
    assert len(found) == after
    assert statuses[-1].Status == status
    assert "failed" in caplog.text
    # The reason says it all where it is in our own words; else the log has the place.
    assert ("in find" in caplog.text) is isinstance(error, KeyError)
    assert "Secret" not in caplog.text


def test_one_line_per_query_and_no_patient_in_it(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        patients(served, query(PatientName="Doe*", PatientBirthDate=None))
    lines = [record.getMessage() for record in caplog.records if record.name == "pylantir.dicom.find.answers"]
    assert len(lines) == 1
    assert lines[0].startswith("query from MR1: 2 matches, status 0x0000")
    assert "Doe" not in caplog.text


@pytest.mark.parametrize(("when_too_many", "status"), [("truncate", 0x0000), ("fail", 0xA700)])
def test_more_matches_than_a_scanner_takes(
    bound: socket.socket, caplog: pytest.LogCaptureFixture, when_too_many: str, status: int
) -> None:
    items = [{"id": number, "patient_id": f"P{number}", "modality": "MR"} for number in range(1, 4)]
    profiles = {"MR1": ScannerProfile(max_answers=2), "MR3": ScannerProfile(max_answers=3)}
    serving_settings = ServingSettings(when_too_many=when_too_many)
    with serving(bound, lambda _query: items, profiles=profiles, serving=serving_settings) as served:
        with association(served) as opened:
            found, statuses = ask(opened, query())
        assert [answer.PatientID for answer in found] == ["P1", "P2"]
        assert statuses[-1].Status == status
        assert "max_answers of 2" in caplog.text
        assert patients(served, query(), calling="MR3") == ["P1", "P2", "P3"]


def test_a_scanner_that_wants_no_empty_attributes_gets_none(bound: socket.socket) -> None:
    item = {"id": 1, "patient_id": "P1", "modality": "MR"}
    profile = ScannerProfile(required_empty=False)
    asked = Dataset()
    asked.AccessionNumber = None
    with serving(bound, lambda _query: [item], default_profile=profile) as served, association(served) as opened:
        assert ask(opened, asked)[0] == []
        (answer,), _ = ask(
            opened, query({"Modality": None, "StationName": None}, AccessionNumber=None, PatientSize=None)
        )
    assert [element.keyword for element in answer] == ["PatientID", "ScheduledProcedureStepSequence"]
    assert [element.keyword for element in answer.ScheduledProcedureStepSequence[0]] == ["Modality"]


def test_each_scanner_reads_names_in_its_own_character_set(
    bound: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    names = [
        "Buc^Jérôme",
        "Παπαδόπουλος^Γιώργος",
        "Hong^Gildong=洪^吉洞=홍^길동",
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
        "山田^太郎",
    ]
    items = [
        {"id": number, "patient_id": f"P{number}", "patient_name": name, "modality": "MR"}
        for number, name in enumerate(names, start=1)
    ]
    charsets = {"LATIN": ("ISO_IR 100",), "GREEK": ("ISO_IR 126",), "KOREAN": ("", "ISO 2022 IR 149")}
    profiles = {title: ScannerProfile(charset=charset) for title, charset in charsets.items()}
    profiles["JAPANESE"] = ScannerProfile(charset=("", "ISO 2022 IR 87"))
    read = {}
    with caplog.at_level(logging.INFO), serving(bound, lambda _query: items, profiles=profiles) as served:
        for title in (*profiles, "ANY"):
            with association(served, calling=title) as opened:
                found, _ = ask(opened, query(PatientName=None))
            read[title] = [str(answer.PatientName) for answer in found]
    assert read["ANY"] == names
    assert read["LATIN"] == ["Buc^Jérôme", "Papadopoylos^Giorgos", "Hong^Gildong", "Yamada^Tarou", "??^??"]
    assert read["GREEK"][:2] == ["Buc^Jerome", "Παπαδόπουλος^Γιώργος"]
    assert read["KOREAN"][2] == "Hong^Gildong=洪^吉洞=홍^길동"
    assert read["JAPANESE"][3:] == ["Yamada^Tarou=山田^太郎=やまだ^たろう", "山田^太郎"]
    lines = [record.getMessage() for record in caplog.records if "LATIN" in record.getMessage()]
    assert lines[:2] == [
        "3 answers to LATIN in ISO_IR 100: written in Latin letters; items 2, 3, 4",
        '1 answers to LATIN in ISO_IR 100: incomplete, with "?" for what has no Latin letters; items 5',
    ]
    assert not any(part in caplog.text for part in ("Buc", "Papad", "Yamada"))


def endless(closed: threading.Event) -> Items:
    def find(_query: WorklistQuery) -> Iterator[Mapping[str, object]]:
        try:
            while True:
                yield {"id": 1, "patient_id": "P1", "modality": "MR"}
        finally:
            closed.set()

    return find


def test_a_cancel_ends_a_query_that_would_never_end(bound: socket.socket) -> None:
    closed = threading.Event()
    with serving(bound, endless(closed)) as served, association(served) as opened:
        answers = opened.send_c_find(query(), ModalityWorklistInformationFind, msg_id=5)
        statuses = [next(answers)[0].Status]
        opened.send_c_cancel(5, query_model=ModalityWorklistInformationFind)
        statuses += [status.Status for status, _ in answers]
        assert statuses[-1] == 0xFE00
        assert set(statuses[:-1]) == {0xFF00}
        assert closed.wait(60)
        assert opened.send_c_echo().Status == 0x0000


def test_a_scanner_that_hangs_up_ends_its_query(bound: socket.socket) -> None:
    closed = threading.Event()
    with serving(bound, endless(closed)) as served:
        with association(served) as opened:
            next(opened.send_c_find(query(), ModalityWorklistInformationFind))
            opened.abort()
        assert closed.wait(60)
        wait_until(lambda: served.server.active_associations == 0, "the association is gone")


def test_a_connection_that_asks_for_nothing_leaves_nothing_behind(bound: socket.socket) -> None:
    with serving(bound, lambda _query: ()) as served:
        for _ in range(30):
            socket.create_connection(("127.0.0.1", served.port)).close()
        with association(served) as opened:
            assert opened.send_c_echo().Status == 0x0000
        wait_until(lambda: served.server.active_associations == 0, "their threads are gone")


def test_thirty_scanners_at_a_time_are_served(bound: socket.socket) -> None:
    with serving(bound, lambda _query: (), max_associations_per_host=30) as served:
        scanners = [RawScanner(served.port) for _ in range(30)]
        assert [scanner.find(query()) for scanner in scanners] == [([], 0x0000)] * 30
        for scanner in scanners:
            scanner.release()


def test_associations_that_wait_for_their_scanner_cost_nothing(bound: socket.socket) -> None:
    with serving(bound, lambda _query: ()) as served:
        scanners = [RawScanner(served.port) for _ in range(10)]
        wait_until(lambda: served.server.active_associations == 10, "all are served")
        before = time.process_time()
        assert not threading.Event().wait(1.0)
        assert time.process_time() - before < 0.3
        for scanner in scanners:
            scanner.release()


def test_a_scanner_that_says_nothing_and_reads_nothing_does_not_hold_up_the_stop(bound: socket.socket) -> None:
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
    with serving(bound, endless(threading.Event())) as served:
        waiting, deaf = RawScanner(served.port), RawScanner(served.port)
        deaf.send(query())
        deaf.wait_for_answer()
        wait_until(lambda: served.server.active_associations == 2, "both are served")
        started = time.monotonic()
        served.stop(0.1)
        assert time.monotonic() - started < 30
        assert served.server.active_associations == 0
        assert waiting.rest()[:1] == b"\x07"
        assert deaf.rest()[:1] == b"\x04"


def test_an_idle_server_sleeps_and_stops_at_once(served: Served) -> None:
    patients(served, query())
    wait_until(lambda: served.server.active_associations == 0, "the association is gone")
    before = served.wake_ups
    assert not threading.Event().wait(0.3)
    assert served.wake_ups == before
    served.leave_loop()
    started = time.monotonic()
    served.server.stop(60)
    assert time.monotonic() - started < 30


def test_stop_lets_an_association_end_and_refuses_nobody(bound: socket.socket) -> None:
    with serving(bound, lambda _query: ()) as served:
        with association(served) as opened:
            stopping = threading.Thread(target=served.stop, args=(60,))
            stopping.start()
            assert opened.send_c_echo().Status == 0x0000
        stopping.join(60)
        assert not stopping.is_alive()
        # Waits in the backlog for the next server on this socket.
        socket.create_connection(("127.0.0.1", served.port)).close()


def test_stop_aborts_what_does_not_end(bound: socket.socket) -> None:
    before = set(threading.enumerate())
    with serving(bound, lambda _query: ()) as served, association(served) as opened:
        with socket.create_connection(("127.0.0.1", served.port)) as half:
            half.sendall(b"\x01\x00\x00\x00")
            wait_until(lambda: served.server.waiting_connections == 1, "both connections are served")
            started = time.monotonic()
            served.stop(0.1)
            assert time.monotonic() - started < 30
            # Daemon threads may linger; the others would keep the process from exiting.
            left = {thread for thread in threading.enumerate() if not thread.daemon} - before - {opened.dul}
            assert left == set()
        wait_until(lambda: not opened.is_established, "the peer has seen the abort")


def test_a_second_server_goes_on_with_the_same_socket(bound: socket.socket, tmp_path: Path) -> None:
    engine = store_items(tmp_path / "worklist.db", ITEMS)
    for _ in range(2):
        with serving(bound, find_in(engine)) as served:
            assert len(patients(served, query())) == 3
    engine.dispose()


def run_findscu(findscu: str, served: Served, folder: Path, *keys: str) -> list[Dataset]:
    from pydicom import dcmread

    command = [findscu, "-W", "-aet", "MR1", "-X", "-od", str(folder)]
    for key in keys:
        command += ["-k", key]
    subprocess.run([*command, "127.0.0.1", str(served.port)], check=True, timeout=30, capture_output=True)
    return [dcmread(path, force=True) for path in sorted(folder.glob("rsp*.dcm"))]


def test_dcmtk_reads_the_worklist(findscu: str, served: Served, tmp_path: Path) -> None:
    answers = run_findscu(
        findscu,
        served,
        tmp_path,
        "PatientName=*",
        "PatientID",
        "(0040,0100)[0].ScheduledProcedureStepStartDate=20260106-20260107",
        "(0040,0100)[0].ScheduledProcedureStepID",
    )
    assert [str(answer.PatientName) for answer in answers] == ["Łęcki^Stanisław", "Doe^John"]
    assert [answer.ScheduledProcedureStepSequence[0].ScheduledProcedureStepID for answer in answers] == ["2", "3"]
    assert {element.keyword for element in answers[1]} == {
        "PatientName",
        "PatientID",
        "ScheduledProcedureStepSequence",
    }


def test_dcmtk_finds_a_name_whatever_its_letter_case(findscu: str, served: Served, tmp_path: Path) -> None:
    (answer,) = run_findscu(findscu, served, tmp_path, "PatientName=doe^JANE", "PatientID")
    assert answer.PatientID == "P1"


def test_only_the_request_that_waits_for_an_answer_takes_it(bound: socket.socket) -> None:
    with serving(bound, lambda _query: ()) as served, association(served) as opened:
        answer = (1, opened.send_c_echo())
        opened.dimse.msg_queue.put(answer)  # type: ignore[arg-type]
        # As pynetdicom's own thread looks for a message, and as a request waits for one.
        assert opened.dimse.get_msg() == (None, None)
        assert opened.dimse.get_msg(block=True) == answer
        assert opened.send_c_echo().Status == 0x0000
