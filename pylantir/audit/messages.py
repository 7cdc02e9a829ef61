"""Writes DICOM audit messages: who asked, was shown which study, or was refused; when Pylantir started and stopped.

Pure: values come in, XML goes out. A query message names no patient: it has the keys of the question, without values. A
procedure record names study UID and patient ID, never the patient's name.

Source: DICOM PS3.15 A.5.1 (schema), A.5.3 (what each message holds); PS3.16 D (codes).
"""

from __future__ import annotations

import base64
import ipaddress
import re
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from pylantir.ipc.accesses import Access, Alert

WORKLIST_FIND = "1.2.840.10008.5.1.4.31"
IMPLICIT_VR = "1.2.840.10008.1.2"
SUCCESS, MINOR_FAILURE, SERIOUS_FAILURE = "0", "4", "8"
_APPLICATION_SERVER = "4"
_NOT_GIVEN = "not given"
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SEQUENCE_TAG, _ITEM_TAG = (0x0040, 0x0100), (0xFFFE, 0xE000)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditSource:
    """The reporting application: its AE title, its host and its process."""

    ae_title: str
    host: str
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """A study and its patient; either may be unknown."""

    study_uid: str | None
    patient_id: str | None


def activity_message(source: AuditSource, moment: int, activity: Literal["start", "stop"]) -> str:
    """Say that Pylantir starts or stops."""
    kind = ("110120", "Application Start") if activity == "start" else ("110121", "Application Stop")
    message = _begin(("110100", "Application Activity"), "E", moment, SUCCESS, kind)
    _add_source_participant(message, source, ("110150", "Application"))
    return _finish(message, source)


def query_message(source: AuditSource, moment: int, access: Access) -> str:
    """Say that somebody asked for the worklist, and for which keys."""
    message = _begin(("110112", "Query"), "E", moment, _outcome(access))
    _add_participant(message, access, ("110153", "Source Role ID"))
    _add_source_participant(message, source, ("110152", "Destination Role ID"))
    is_dicom = access.service in {"C-FIND", "DICOMweb"}
    asked = keys_as_dataset(access.asked.split(", ")) if access.service == "C-FIND" else access.asked.encode()
    if is_dicom:
        queried = _add_object(message, WORKLIST_FIND, ("110181", "DCM", "SOP Class UID"), kind="2", role="3")
    else:
        queried = _add_object(message, access.service, ("10", "RFC-3881", "Search Criteria"), kind="2", role="24")
    ElementTree.SubElement(queried, "ParticipantObjectQuery").text = _base64(asked)
    details = {"TransferSyntax": IMPLICIT_VR} if access.service == "C-FIND" else {}
    for name, value in {**details, "service": access.service, "matches": str(access.matches)}.items():
        _add_detail(queried, name, value)
    return _finish(message, source)


def record_message(
    source: AuditSource,
    moment: int,
    action: Literal["C", "R", "U"],
    who: Access,
    studies: Sequence[Study],
    instance_uid: str | None = None,
) -> str:
    """Say that a patient's procedure was created, read or updated.

    Args:
        source: Who reports it.
        moment: When, in microseconds since 1970.
        action: Created, read or updated.
        who: By whom, and with which outcome.
        studies: The studies, all of one patient.
        instance_uid: The performed procedure step.
    """
    message = _begin(("110111", "Procedure Record"), action, moment, _outcome(who))
    _add_participant(message, who, ("110153", "Source Role ID"))
    _add_source_participant(message, source, ("110152", "Destination Role ID"))
    for uid in dict.fromkeys(study.study_uid for study in studies if study.study_uid):
        study = _add_object(message, uid, ("110180", "DCM", "Study Instance UID"), kind="2", role="3", name=uid)
        if instance_uid:
            description = ElementTree.SubElement(study, "ParticipantObjectDescription")
            ElementTree.SubElement(description, "MPPS", UID=_token(instance_uid))
    for patient_id in dict.fromkeys(study.patient_id for study in studies if study.patient_id):
        # The schema demands a name; the patient's own is never sent.
        _add_object(message, patient_id, ("2", "RFC-3881", "Patient Number"), kind="1", role="1", name=_NOT_GIVEN)
    return _finish(message, source)


def alert_message(source: AuditSource, alert: Alert) -> str:
    """Say that an association or a login was refused."""
    is_login = alert.kind == "login"
    kind = ("110132", "Use of Restricted Function") if is_login else ("110126", "Node Authentication")
    message = _begin(
        ("110113", "Security Alert"), "E", alert.moment, MINOR_FAILURE if is_login else SERIOUS_FAILURE, kind
    )
    _add_source_participant(message, source, ("110150", "Application"), is_requestor=True)
    node = alert.address or _NOT_GIVEN
    performer = Access(
        service="", address=alert.address, peer=alert.peer or node, status="", matches=0, moments=[alert.moment]
    )
    _add_participant(message, performer, ("110153", "Source Role ID"), is_requestor=False)
    subject = _add_object(message, node, ("110182", "DCM", "Node ID"), kind="2", role="13", name=alert.peer or node)
    _add_detail(subject, "Alert Description", alert.text)
    return _finish(message, source)


def keys_as_dataset(keywords: Iterable[str]) -> bytes:
    """Write a query's keys as a data set, implicit VR little endian, all without a value."""
    from pydicom.datadict import tag_for_keyword

    tags = sorted(tag for tag in map(tag_for_keyword, filter(None, keywords)) if tag is not None)
    places = [(tag >> 16, tag & 0xFFFF) for tag in tags]
    # What belongs to the scheduled step stands in its sequence (PS3.4 table K.6-1).
    in_step = [place for place in places if _is_of_step(place)]
    elements = {place: _element(place, b"") for place in places if place not in in_step}
    if in_step:
        item = b"".join(_element(place, b"") for place in in_step)
        elements[_SEQUENCE_TAG] = _element(_SEQUENCE_TAG, _element(_ITEM_TAG, item))
    return b"".join(elements[place] for place in sorted(elements))


def _is_of_step(place: tuple[int, int]) -> bool:
    group, element = place
    return (group == 0x0040 and element <= 0x0020) or place in {(0x0008, 0x0060), (0x0032, 0x1070)}


def _element(place: tuple[int, int], value: bytes) -> bytes:
    return struct.pack("<HHI", *place, len(value)) + value


def _outcome(access: Access) -> str:
    """Judge a DIMSE status in hexadecimal, an HTTP status, or a command's exit status."""
    if access.service.startswith("command"):
        return SUCCESS
    if access.status.isdecimal() and len(access.status) == 3:
        return SUCCESS if int(access.status) < 400 else MINOR_FAILURE
    return SUCCESS if access.status in {"0000", "0001", "0107", "0116", "FE00"} else SERIOUS_FAILURE


def _begin(
    event: tuple[str, str], action: str, moment: int, outcome: str, kind: tuple[str, str] | None = None
) -> Element:
    message = Element("AuditMessage")
    when = datetime.fromtimestamp(moment / 1_000_000, UTC).isoformat(timespec="milliseconds")
    attributes = {
        "EventActionCode": action, "EventDateTime": when.replace("+00:00", "Z"), "EventOutcomeIndicator": outcome,
    }  # fmt: skip
    identification = ElementTree.SubElement(message, "EventIdentification", attributes)
    _add_code(identification, "EventID", (event[0], "DCM", event[1]))
    if kind:
        _add_code(identification, "EventTypeCode", (kind[0], "DCM", kind[1]))
    return message


def _finish(message: Element, source: AuditSource) -> str:
    """Add who reports it, before the objects, and write the message."""
    identification = Element("AuditSourceIdentification", AuditSourceID=_token(f"{source.ae_title}@{source.host}"))
    ElementTree.SubElement(identification, "AuditSourceTypeCode", {"csd-code": _APPLICATION_SERVER})
    objects = [place for place, child in enumerate(message) if child.tag == "ParticipantObjectIdentification"]
    message.insert(objects[0] if objects else len(message), identification)
    return ElementTree.tostring(message, encoding="unicode")


def _add_participant(message: Element, who: Access, role: tuple[str, str], *, is_requestor: bool = True) -> None:
    attributes = {
        "UserID": _text(who.peer or who.address or _NOT_GIVEN),
        "UserIsRequestor": "true" if is_requestor else "false",
        **_access_point(who.address),
    }
    if who.service in {"C-FIND", "N-GET", "N-CREATE", "N-SET"} and who.peer:
        attributes["AlternativeUserID"] = _text(f"AETITLES={who.peer}")
    if who.certificate:
        attributes["UserName"] = _text(who.certificate)
    participant = ElementTree.SubElement(message, "ActiveParticipant", attributes)
    _add_code(participant, "RoleIDCode", (role[0], "DCM", role[1]))


def _add_source_participant(
    message: Element, source: AuditSource, role: tuple[str, str], *, is_requestor: bool = False
) -> None:
    attributes = {
        "UserID": str(source.pid),
        "AlternativeUserID": _text(f"AETITLES={source.ae_title}"),
        "UserIsRequestor": "true" if is_requestor else "false",
        **_access_point(source.host),
    }
    participant = ElementTree.SubElement(message, "ActiveParticipant", attributes)
    _add_code(participant, "RoleIDCode", (role[0], "DCM", role[1]))


def _access_point(address: str | None) -> dict[str, str]:
    if not address:
        return {}
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return {"NetworkAccessPointID": _token(address), "NetworkAccessPointTypeCode": "1"}
    return {"NetworkAccessPointID": address, "NetworkAccessPointTypeCode": "2"}


def _add_object(
    message: Element, identifier: str, code: tuple[str, str, str], *, kind: str, role: str, name: str | None = None
) -> Element:
    attributes = {
        "ParticipantObjectID": _token(identifier),
        "ParticipantObjectTypeCode": kind,
        "ParticipantObjectTypeCodeRole": role,
    }
    described = ElementTree.SubElement(message, "ParticipantObjectIdentification", attributes)
    _add_code(described, "ParticipantObjectIDTypeCode", code)
    if name is not None:
        ElementTree.SubElement(described, "ParticipantObjectName").text = _token(name)
    return described


def _add_detail(described: Element, name: str, value: str) -> None:
    attributes = {"type": name, "value": _base64(value.encode("utf-8", "replace"))}
    ElementTree.SubElement(described, "ParticipantObjectDetail", attributes)


def _add_code(parent: Element, name: str, code: tuple[str, str, str]) -> None:
    value, system, meaning = code
    ElementTree.SubElement(parent, name, {"csd-code": value, "codeSystemName": system, "originalText": meaning})


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


def _text(value: str) -> str:
    """Replace what XML cannot hold."""
    return _NO_XML.sub("\N{REPLACEMENT CHARACTER}", value)


def _token(value: str) -> str:
    return " ".join(_text(value).split()) or _NOT_GIVEN
