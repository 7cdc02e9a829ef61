"""The values of MPPS: what a scanner reports, what it is answered, what is kept of a performed procedure step.

Made in the server process, decided on in the writer, and passed between them as JSON. Attributes are in the DICOM JSON
model, in Unicode: tag as eight hexadecimal digits -> {"vr": …, "Value": [...]}.

Source: DICOM PS3.18 Annex F (the JSON model), PS3.4 F.7 (Modality Performed Procedure Step SOP class).
"""

from __future__ import annotations

import datetime
import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Attributes = Mapping[str, Mapping[str, Any]]
Operation = Literal["create", "set"]
Oddity = tuple[str, str]
"""An element that breaks its value representation: tag, and what became of it, without its value."""

MODALITY = "00080060"
ACCESSION_NUMBER = "00080050"
PATIENT_NAME = "00100010"
PATIENT_ID = "00100020"
ISSUER = "00100021"
BIRTH_DATE = "00100030"
SEX = "00100040"
STUDY_UID = "0020000D"
STEP_SEQUENCE = "00400270"
REQUEST_SEQUENCE = "00400275"
STEP_ID = "00400009"
START_DATE = "00400244"
START_TIME = "00400245"
END_DATE = "00400250"
END_TIME = "00400251"
STATUS = "00400252"
SERIES_SEQUENCE = "00400340"
SPECIFIC_CHARACTER_SET = "00080005"

NAME_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")

IN_PROGRESS = "IN PROGRESS"
COMPLETED = "COMPLETED"
DISCONTINUED = "DISCONTINUED"
FINAL_STATUSES = (COMPLETED, DISCONTINUED)


class DimseStatus(enum.IntEnum):
    """The answers to a report. Source: DICOM PS3.7 Annex C."""

    SUCCESS = 0x0000
    NO_SUCH_ATTRIBUTE = 0x0105
    INVALID_VALUE = 0x0106
    ATTRIBUTE_LIST_ERROR = 0x0107
    PROCESSING_FAILURE = 0x0110
    DUPLICATE_INSTANCE = 0x0111
    NO_SUCH_INSTANCE = 0x0112
    INVALID_INSTANCE = 0x0117
    NO_SUCH_CLASS = 0x0118
    MISSING_ATTRIBUTE = 0x0120
    MISSING_VALUE = 0x0121
    NOT_AUTHORISED = 0x0124
    UNRECOGNISED_OPERATION = 0x0211
    RESOURCE_LIMITATION = 0x0213


class ErrorId(enum.IntEnum):
    """Why a report was refused. All but the last are Pylantir's own; that one is DICOM PS3.4 F.7.2.2.3."""

    MISSING_ATTRIBUTE = 1
    MISSING_VALUE = 2
    WRONG_VALUE = 3
    WRONG_FORM = 4
    NOT_CREATED = 5
    UNCHANGEABLE = 6
    DUPLICATE = 7
    UNKNOWN_INSTANCE = 8
    BAD_INSTANCE_UID = 9
    WRONG_CLASS = 10
    WRONG_OPERATION = 11
    UNREADABLE = 12
    UNAVAILABLE = 13
    INTERNAL = 14
    TOO_LARGE = 15
    NOT_OWN = 16
    NO_LONGER_UPDATABLE = 0xA710


@dataclass(frozen=True, slots=True, kw_only=True)
class MppsRequest:
    """One N-CREATE or N-SET.

    Attributes:
        request_id: Made by the server for this one request; a repeat with the same id gets the same answer.
        sop_instance_uid: None where an N-CREATE leaves it to us.
        scanner: Calling AE title.
        attributes: The attribute list, or the modification list.
        oddities: What could not be read as it should.
        repeats: The id of the same report, sent before, of which nobody could tell whether it was stored.
    """

    request_id: str
    operation: Operation
    sop_instance_uid: str | None
    scanner: str
    attributes: Attributes
    oddities: Sequence[Oddity] = ()
    repeats: str = ""

    @property
    def kept_as(self) -> str:
        """The id under which its answer is kept."""
        return self.repeats or self.request_id

    def as_json(self) -> dict[str, object]:
        """Return the JSON form that goes to the writer."""
        return {
            "operation": self.operation,
            "sop_instance_uid": self.sop_instance_uid,
            "scanner": self.scanner,
            "attributes": self.attributes,
            "oddities": self.oddities,
            "repeats": self.repeats,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class MppsAnswer:
    """What the scanner is told.

    Attributes:
        comment: At most 64 characters, without patient data.
        tags: The attributes at fault.
        sop_instance_uid: The instance; made by us where the scanner gave none.
        forgiven: Keywords of the missing attributes that Pylantir does not insist on.
        remarks: Other faults that were accepted, in words, without patient data.
    """

    status: int
    error_id: int | None = None
    comment: str = ""
    tags: tuple[str, ...] = ()
    sop_instance_uid: str | None = None
    forgiven: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    def as_json(self) -> dict[str, object]:
        """Return the JSON form that is stored and sent to the server."""
        return {
            "status": self.status,
            "error_id": self.error_id,
            "comment": self.comment,
            "tags": list(self.tags),
            "sop_instance_uid": self.sop_instance_uid,
            "forgiven": list(self.forgiven),
            "remarks": list(self.remarks),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> MppsAnswer:
        """Read what `as_json` wrote."""
        lists = ("tags", "forgiven", "remarks")
        return cls(**{**value, **{name: tuple(value.get(name, ())) for name in lists}})


@dataclass(frozen=True, slots=True, kw_only=True)
class MppsInstance:
    """What is kept of a performed procedure step.

    Attributes:
        status: `IN PROGRESS`, `COMPLETED` or `DISCONTINUED`.
        item_ids: The worklist items that it was done for; none for an unscheduled exam.
    """

    sop_instance_uid: str
    status: str
    attributes: Attributes
    item_ids: tuple[int, ...] = field(default=())


def values_of(attributes: Attributes, tag: str) -> Sequence[Any]:
    """The values of an attribute that are not empty."""
    return [value for value in attributes.get(tag, {}).get("Value", ()) if value not in (None, "", {})]


def text_of(attributes: Attributes, tag: str) -> str:
    """The first value of an attribute as text without padding, empty where there is none."""
    for value in values_of(attributes, tag):
        name = value.get("Alphabetic", "") if isinstance(value, Mapping) else value
        return str(name).strip(" \0")
    return ""


def name_of(attributes: Attributes, tag: str) -> str:
    """Return the first person name as DICOM writes it, all its groups; empty where there is none."""
    for value in values_of(attributes, tag):
        groups = [value.get(group, "") for group in NAME_GROUPS] if isinstance(value, Mapping) else [value]
        return "=".join(map(str, groups)).rstrip("=")
    return ""


def day_of(attributes: Attributes, tag: str) -> str:
    """Return a date as YYYYMMDD, whichever way it is written; empty if it is no day."""
    digits = text_of(attributes, tag).replace(".", "").replace("-", "")
    try:
        return f"{datetime.datetime.strptime(digits, '%Y%m%d'):%Y%m%d}" if len(digits) == 8 else ""  # noqa: DTZ007
    except ValueError:
        return ""


def items_of(attributes: Attributes, tag: str) -> list[Attributes]:
    """The items of a sequence, none where it is missing."""
    return [item for item in attributes.get(tag, {}).get("Value", ()) if isinstance(item, Mapping)]


def levels_about_steps(attributes: Attributes) -> list[Attributes]:
    """The places in which scanners say what an exam is for: its scheduled steps, its request attributes, its top."""
    steps = [item for tag in (STEP_SEQUENCE, REQUEST_SEQUENCE) for item in items_of(attributes, tag)]
    return [*steps, attributes]


def study_uids(attributes: Attributes) -> set[str]:
    """The study UIDs that a report names, wherever they stand."""
    return {text_of(level, STUDY_UID) for level in levels_about_steps(attributes)} - {""}
