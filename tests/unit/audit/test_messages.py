"""Audit messages: each meets the schema of the standard, whatever a peer calls itself, and names no patient it should not."""

from __future__ import annotations

import base64
from io import BytesIO

import pytest
from audit_schema import event, objects, valid
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree
from pydicom.filereader import read_dataset

from pylantir.audit.messages import (
    AuditSource,
    Study,
    activity_message,
    alert_message,
    keys_as_dataset,
    query_message,
    record_message,
)
from pylantir.audit.syslog import frame, pack
from pylantir.ipc.accesses import Access, Alert

SOURCE = AuditSource(ae_title="PYLANTIR", host="ris-1", pid=4711)
NOON = 1_796_040_000_123_456
ANY = st.text(st.characters(codec="utf-8"), max_size=20)
ACCESSES = st.builds(
    Access,
    service=st.sampled_from(["C-FIND", "N-GET", "page", "DICOMweb", "command query-db"]),
    address=st.none() | ANY,
    peer=st.none() | ANY,
    certificate=st.none() | ANY,
    asked=ANY,
    status=st.sampled_from(["0000", "A900", "abandoned", "200", "503", "1", "0"]),
    matches=st.integers(0, 99),
    moments=st.just([NOON]),
)


def access(**changes: object) -> Access:
    fields = {
        "service": "C-FIND",
        "address": "10.0.0.7",
        "peer": "MR1",
        "asked": "PatientID, Modality",
        "status": "0000",
    }
    return Access(**{**fields, "matches": 3, "moments": [NOON], **changes})  # type: ignore[arg-type]


@given(ACCESSES, st.lists(st.builds(Study, study_uid=st.none() | ANY, patient_id=st.none() | ANY), max_size=3), ANY)
def test_every_message_meets_the_schema(who: Access, studies: list[Study], text: str) -> None:
    assert event(query_message(SOURCE, NOON, who)) == ("110112", None)
    assert event(record_message(SOURCE, NOON, "R", who, studies, text)) == ("110111", None)
    alert = Alert(kind="association", address=who.address, peer=who.peer, text=text, moment=NOON)
    assert event(alert_message(SOURCE, alert)) == ("110113", "110126")


def test_the_schema_refuses_what_is_wrong() -> None:
    message = query_message(SOURCE, NOON, access())
    for right, wrong in (
        ('EventActionCode="E"', 'EventActionCode="X"'), ("AuditSourceIdentification", "AuditSource"),
        ('UserIsRequestor="true"', ""), ("2026-11-30T", "30.11.2026 "),
    ):  # fmt: skip
        assert right in message
        with pytest.raises(etree.DocumentInvalid):
            valid(message.replace(right, wrong))


def test_start_and_stop() -> None:
    assert event(activity_message(SOURCE, NOON, "start")) == ("110100", "110120")
    assert event(activity_message(SOURCE, NOON, "stop")) == ("110100", "110121")


def test_a_query_says_who_asked_from_where_for_which_keys() -> None:
    root = valid(query_message(SOURCE, NOON, access(certificate="CN=MR1")))
    asking, answering = root.findall("ActiveParticipant")
    assert dict(asking.attrib) == {
        "UserID": "MR1", "UserIsRequestor": "true", "NetworkAccessPointID": "10.0.0.7", "NetworkAccessPointTypeCode": "2",
        "AlternativeUserID": "AETITLES=MR1", "UserName": "CN=MR1",
    }  # fmt: skip
    assert answering.get("UserIsRequestor") == "false"
    assert root.find("EventIdentification").get("EventDateTime") == "2026-11-30T12:00:00.123Z"
    assert root.find("AuditSourceIdentification").get("AuditSourceID") == "PYLANTIR@ris-1"
    (queried,) = root.findall("ParticipantObjectIdentification")
    assert queried.get("ParticipantObjectID") == "1.2.840.10008.5.1.4.31"
    dataset = read_dataset(BytesIO(base64.b64decode(queried.findtext("ParticipantObjectQuery"))), True, True)
    assert (dataset.PatientID, dataset.ScheduledProcedureStepSequence[0].Modality) == (
        None,
        None,
    ) or not dataset.PatientID


def test_keys_without_a_place_are_left_out() -> None:
    assert keys_as_dataset(["", "NoSuchKeyword"]) == b""
    assert keys_as_dataset(["PatientName"]) == b"\x10\0\x10\0\0\0\0\0"


def test_a_procedure_record_names_study_and_patient_id_but_no_name() -> None:
    message = record_message(
        SOURCE, NOON, "U", access(service="N-SET"), [Study(study_uid="1.2.3", patient_id="P1")], "1.9"
    )
    assert objects(message) == {"110180": "1.2.3", "2": "P1"}
    root = valid(message)
    assert root.find("EventIdentification").get("EventActionCode") == "U"
    assert root.find(".//MPPS").get("UID") == "1.9"
    assert [name.text for name in root.iter("ParticipantObjectName")] == ["1.2.3", "not given"]


@pytest.mark.parametrize(
    ("service", "status", "outcome"),
    [("C-FIND", "0000", "0"), ("C-FIND", "FE00", "0"), ("C-FIND", "A900", "8"), ("C-FIND", "abandoned", "8"),
     ("page", "200", "0"), ("page", "404", "4"), ("command explain", "1", "0")],
)  # fmt: skip
def test_outcome(service: str, status: str, outcome: str) -> None:
    root = valid(query_message(SOURCE, NOON, access(service=service, status=status)))
    assert root.find("EventIdentification").get("EventOutcomeIndicator") == outcome


def test_a_refused_login_names_the_user_as_performer() -> None:
    alert = Alert(kind="login", address="10.0.0.9", peer="anna", text="wrong password", moment=NOON)
    message = alert_message(SOURCE, alert)
    assert event(message) == ("110113", "110132")
    reporting, performing = valid(message).findall("ActiveParticipant")
    assert (reporting.get("UserIsRequestor"), performing.get("UserIsRequestor")) == ("true", "false")
    assert performing.get("UserID") == "anna"
    assert objects(message) == {"110182": "10.0.0.9"}


def test_syslog_form() -> None:
    message = activity_message(SOURCE, NOON, "start")
    packed = pack(message, moment=NOON, host="ris 1\n", pid=4711)
    head, _, body = packed.partition(b" - ")
    assert head == b"<85>1 2026-11-30T12:00:00.123Z ris1 pylantir 4711 DICOM+RFC3881"
    assert body == b"\xef\xbb\xbf" + message.encode()
    alert = alert_message(SOURCE, Alert(kind="login", text="t", moment=NOON))
    assert pack(alert, moment=NOON, host="", pid=1).startswith(b"<84>1 2026-11-30T12:00:00.123Z - pylantir 1 ")
    assert frame(packed, "tcp") == frame(packed, "tls") == b"%d " % len(packed) + packed
    assert frame(packed, "udp") == packed
