"""A scanner reports its work to the real processes, whichever of them dies meanwhile."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from contextlib import suppress
from io import BytesIO

import pytest
from installation import Installation, csv_source, wait_until
from pydicom.dataset import Dataset
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import N_CREATE
from pynetdicom.sop_class import ModalityPerformedProcedureStep  # type: ignore[attr-defined]
from scanner import beginning, change, connected, create, dataset, ending, retrieve

UID = "2.25.77"
STATUS = "performed_procedure_step_status"


@pytest.fixture
def running(installation: Installation) -> Installation:
    installation.write_csv("list.csv", ["P1", "P2"])
    installation.configure(csv_source("clinic", "list.csv"), mpps={"timeout": 25})
    installation.start()
    wait_until(lambda: len(installation.patients()) == 2, "both patients are in the worklist")
    return installation


def study_uid(installation: Installation, patient: str) -> str:
    return str(installation.rows("select study_instance_uid from worklist_items where patient_id = ?", patient)[0][0])


def status_of(installation: Installation, patient: str) -> str:
    return str(installation.rows(f"select {STATUS} from worklist_items where patient_id = ?", patient)[0][0])


def send_bytes(association: Association, data: bytes) -> int:
    """Send an N-CREATE whose attribute list is whatever one likes; gives the answer's status."""
    request = N_CREATE()
    request.MessageID = 99
    request.AffectedSOPClassUID = ModalityPerformedProcedureStep
    request.AffectedSOPInstanceUID = "2.25.6"
    request.AttributeList = BytesIO(data)
    contexts = {context.abstract_syntax: context.context_id for context in association.accepted_contexts}
    association._reactor_checkpoint.clear()
    association.dimse.send_msg(request, contexts[ModalityPerformedProcedureStep])
    _, response = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    return int(response.Status)


def test_a_scan_from_beginning_to_end(running: Installation) -> None:
    with connected(running.port) as association:
        assert create(association, UID, beginning(study_uid(running, "P1"))).Status == 0x0000
        # Answered means committed.
        assert status_of(running, "P1") == "IN_PROGRESS"
        assert create(association, UID, beginning(study_uid(running, "P1"))).Status == 0x0111
        assert change(association, "2.25.1", ending()).Status == 0x0112
        wrong = change(association, UID, dataset(PatientID="P2"))
        assert (wrong.Status, wrong.ErrorComment) == (0x0106, "PatientID may not change")
        assert wrong.AttributeIdentifierList == 0x00100020
        assert change(association, UID, ending()).Status == 0x0000
        assert status_of(running, "P1") == "COMPLETED"
        late = change(association, UID, dataset(PerformedProcedureStepDescription="late"))
        assert (late.Status, late.ErrorID) == (0x0110, 0xA710)
        assert late.ErrorComment == "Performed Procedure Step Object may no longer be updated"
        got, attributes = retrieve(association, UID)
        assert got.Status == 0x0000
        assert attributes is not None
        assert attributes.PerformedProcedureStepStatus == "COMPLETED"
        assert attributes.PerformedSeriesSequence[0].ProtocolName == "BRAIN"
        assert retrieve(association, "2.25.1")[0].Status == 0x0112
        some, attributes = retrieve(association, UID, 0x00080060, 0x00104000)
        assert (some.Status, [element.keyword for element in attributes or ()]) == (0x0107, ["Modality"])
    assert status_of(running, "P2") == "SCHEDULED"
    audited = running.rows("select action, item_id from audit_log where actor = 'scanner:MR1' order by id")
    assert [action for action, _ in audited] == ["started", "completed"]
    assert "Zyxwname" not in running.log()


def test_names_in_any_script_come_back_and_odd_bytes_are_refused(running: Installation) -> None:
    with connected(running.port) as association:
        named = beginning("9.9", PatientName="Łęcki^Stanisław", PatientID="X", SpecificCharacterSet="ISO_IR 101")
        made = association.send_n_create(named, ModalityPerformedProcedureStep, None)
        assert made[0].Status == 0x0000
        (uid,) = running.rows("select sop_instance_uid from mpps_instances where patient_id = 'X'")[0]
        _, attributes = retrieve(association, uid)
        assert attributes is not None
        assert str(attributes.PatientName) == "Łęcki^Stanisław"
        broken = Dataset()
        broken.add_new(0x00400270, "LO", "no sequence")
        assert create(association, "2.25.5", broken).Status == 0x0106
        for data in (b"\x40\x00\x40\x03\xff\xff\xff\xff" * 500, b"\x10\x00\x20\x00\x10\x00\x00\x00P1"):
            assert send_bytes(association, data) == 0x0106
        assert change(association, uid, ending()).Status == 0x0000


def test_the_report_goes_on_whichever_process_is_killed_in_between(running: Installation) -> None:
    with connected(running.port) as association:
        assert create(association, UID, beginning(study_uid(running, "P1"))).Status == 0x0000
        os.kill(running.process("writer")["pid"], signal.SIGKILL)
        # The scanner notices nothing but a pause.
        assert change(association, UID, dataset(PerformedProcedureStepDescription="knee")).Status == 0x0000
    server = running.process("mwl-scp")["pid"]
    os.kill(server, signal.SIGKILL)
    running.wait_for_successor("mwl-scp", server)
    with connected(running.port) as association:
        assert change(association, UID, ending("DISCONTINUED")).Status == 0x0000
    assert status_of(running, "P1") == "DISCONTINUED"


def test_what_was_answered_with_success_is_stored_and_a_repeat_of_the_rest_succeeds(running: Installation) -> None:
    """The writer is killed again and again while reports come in from two scanners."""
    over = threading.Event()

    killed: list[int] = []

    def kill_writers() -> None:
        while len(killed) < 4 and not over.wait(0.1):
            writer = running.process("writer")
            if writer.get("ready") and writer["pid"] not in killed:
                with suppress(ProcessLookupError):
                    os.kill(writer["pid"], signal.SIGKILL)
                    killed.append(writer["pid"])

    answers: dict[str, int] = {}

    def scan(scanner: int) -> None:
        with connected(running.port, calling=f"MR{scanner}") as association:
            for number in itertools.count():
                if number >= 60 and killed:
                    break
                uid = f"2.25.{scanner}{number:03d}"
                answers[uid] = create(association, uid, beginning("9.9", PatientID="X")).Status

    killer = threading.Thread(target=kill_writers)
    scanners = [threading.Thread(target=scan, args=(number,)) for number in (1, 2)]
    for thread in (killer, *scanners):
        thread.start()
    for thread in scanners:
        thread.join()
    over.set()
    killer.join()
    assert set(answers.values()) <= {0x0000, 0x0213}
    assert {uid for uid, status in answers.items() if status == 0x0000} <= stored_reports(running)
    assert len(stored_reports(running)) > 60
    # One that was stored, though its answer was lost with the writer, is not refused as a duplicate.
    wait_until(lambda: bool(running.process("writer").get("ready")), "the writer is back")
    for uid in [uid for uid, status in answers.items() if status == 0x0213]:
        with connected(running.port, calling=f"MR{uid[5]}") as association:
            answers[uid] = create(association, uid, beginning("9.9", PatientID="X")).Status
    assert set(answers.values()) == {0x0000}
    assert stored_reports(running) == set(answers)


def stored_reports(installation: Installation) -> set[str]:
    return {uid for (uid,) in installation.rows("select sop_instance_uid from mpps_instances")}


def test_a_writer_that_does_not_come_back_in_time_is_told_and_the_report_is_not_stored_later(
    installation: Installation,
) -> None:
    installation.write_csv("list.csv", ["P1"])
    installation.configure(csv_source("clinic", "list.csv"), mpps={"timeout": 1, "mode": "strict"})
    installation.start()
    wait_until(lambda: installation.patients() == ["P1"], "the patient is in the worklist")
    writer = installation.process("writer")["pid"]
    os.kill(writer, signal.SIGSTOP)
    try:
        with connected(installation.port) as association:
            began = time.monotonic()
            refused = create(association, UID, beginning("9.9"))
            assert (refused.Status, refused.ErrorID) == (0x0213, 13)
            assert 0.9 < time.monotonic() - began < 25
            os.kill(writer, signal.SIGCONT)
            # Strict, so this one is refused, for what it lacks; and the one before has left nothing.
            # A second is soon over on a busy machine.
            lacking = wait_until(lambda: (one := create(association, UID, beginning("9.9"))).Status != 0x0213 and one)
            assert (lacking.Status, lacking.ErrorComment) == (0x0120, "PatientBirthDate is missing")
    finally:
        with suppress(ProcessLookupError):
            os.kill(writer, signal.SIGCONT)
    assert installation.rows("select count(*) from mpps_instances") == [(0,)]


def test_an_end_with_sixty_thousand_images_is_stored(running: Installation) -> None:
    images = []
    for number in range(60_000):
        image = Dataset()
        image.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
        image.ReferencedSOPInstanceUID = f"2.25.{10**30 + number}"
        images.append(image)
    last = ending("COMPLETED")
    last.PerformedSeriesSequence[0].ReferencedImageSequence = images
    with connected(running.port) as association:
        assert create(association, UID, beginning(study_uid(running, "P1"))).Status == 0x0000
        assert change(association, UID, last).Status == 0x0000
    assert status_of(running, "P1") == "COMPLETED"


def test_a_report_with_odd_numbers_and_its_study_at_the_top_is_linked(running: Installation) -> None:
    def element(tag: int, value: bytes) -> bytes:
        value += b" " * (len(value) % 2)
        return (
            (tag >> 16).to_bytes(2, "little")
            + (tag & 0xFFFF).to_bytes(2, "little")
            + len(value).to_bytes(4, "little")
            + value
        )

    lean = element(0x00101030, b"70kg") + element(0x0020000D, study_uid(running, "P1").encode())
    lean += element(0x00400252, b"IN PROGRESS")
    with connected(running.port) as association:
        assert send_bytes(association, lean) == 0x0000
    assert status_of(running, "P1") == "IN_PROGRESS"
