"""The fast way to responses gives the bytes that pydicom gives, whatever is stored and asked for."""

from __future__ import annotations

import unicodedata
from io import BytesIO
from typing import Any

import pytest
from dataset_encoding import encode_response, transcode
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pynetdicom.dimse_messages import C_FIND_RSP
from pynetdicom.dimse_primitives import C_FIND
from pynetdicom.dsutils import encode

from pylantir.dicom.find import encode_values as wire_values
from pylantir.dicom.find.attributes import FIELD_ATTRIBUTES
from pylantir.dicom.find.encode_responses import ResponseEncoder
from pylantir.dicom.find.encode_values import Writing
from pylantir.dicom.find.matching import ParsedQuery, RequestedKey, parse_query
from pylantir.dicom.net.commands import Ending, Operation, ResponseWriter
from pylantir.dicom.net.services import WORKLIST_FIND
from pylantir.dicom.text.charset import CharacterSet, Loss
from pylantir.entry import WORKLIST_FIELDS
from pylantir.errors import RecordRejected
from pylantir.settings import CHARACTER_SETS

pytestmark = pytest.mark.usefixtures("quiet_dicom_libraries")

CHARSETS = [
    None,
    *((term,) for term in CHARACTER_SETS),
    ("", "ISO 2022 IR 87", "ISO 2022 IR 159"),
    ("ISO 2022 IR 13", "ISO 2022 IR 87"),
    ("ISO 2022 IR 100", "ISO 2022 IR 144", "ISO 2022 IR 126"),
    ("", "ISO 2022 IR 149"),
    ("", "ISO 2022 IR 58"),
]
LETTERS = st.text(alphabet="aZ09 ^-.éß߳λЖ山田太郎やマﾔ길동张שقไ丂~", max_size=12)
ASCII = st.text(alphabet="aZ09.-*", max_size=9)
TEXTS = st.one_of(ASCII, ASCII, LETTERS).map(str.strip)
NAMES = st.lists(TEXTS, min_size=1, max_size=3).map("=".join).map(lambda name: name.rstrip("="))
VALUES = {"PN": NAMES, "LO": TEXTS, "SH": TEXTS}
NUMBERS = {
    "patient_weight_lb": st.one_of(ASCII, st.integers(0, 3000), st.floats(0, 3000)),
    "pregnancy_status": st.one_of(ASCII, st.sampled_from(["1", "4", "65535", "65536", "٣"])),
    "performed_procedure_step_status": st.sampled_from(["SCHEDULED", "IN_PROGRESS", "odd"]),
}
ROWS = st.fixed_dictionaries(
    {
        name: st.one_of(st.none(), st.just(""), *[NUMBERS.get(name, VALUES.get(rule.vr, ASCII))] * 4)
        for name, rule in WORKLIST_FIELDS.items()
    }
)
# 0008,0001 comes before Specific Character Set; the others are unknown to the worklist, each with another length field.
IDENTIFIER_FIELDS = {
    "patient_id": "PatientID",
    "issuer_of_patient_id": "IssuerOfPatientID",
    "accession_number": "AccessionNumber",
    "scheduled_procedure_step_id": "ScheduledProcedureStepID",
    "requested_procedure_id": "RequestedProcedureID",
    "admission_id": "AdmissionID",
    "study_instance_uid": "StudyInstanceUID",
}
UNKNOWN = [(0x00080001, "UL"), (0x00101020, "DS"), (0x00102180, "SH"), (0x00104000, "LT"), (0x00420011, "OB")]


def identifier(chosen: set[Any], path: tuple[str, ...] = ()) -> Dataset:
    """Empty keys, in sequences where they belong there."""
    level = Dataset()
    for attribute in FIELD_ATTRIBUTES:
        if attribute.path != path or (attribute.path, attribute.keyword) not in chosen:
            continue
        if attribute.vr == "SQ":
            inner = identifier(chosen, (*path, attribute.keyword))
            level.add(DataElement(attribute.tag, "SQ", Sequence([inner] if len(inner) else [])))
        else:
            level.add(DataElement(attribute.tag, attribute.vr, None))
    return level


PLACES = [(attribute.path, attribute.keyword) for attribute in FIELD_ATTRIBUTES]
SPS_KEY = ((), "ScheduledProcedureStepSequence")
IDENTIFIERS = st.builds(
    lambda chosen, unknown: with_unknown(identifier(chosen | {SPS_KEY}), unknown),
    st.sets(st.sampled_from(PLACES), max_size=20),
    st.sets(st.sampled_from(UNKNOWN), max_size=3),
)


def with_unknown(level: Dataset, unknown: set[tuple[int, str]]) -> Dataset:
    for tag, vr in unknown:
        level.add(DataElement(tag, vr, None))
    return level


def by_pydicom(
    row: dict[str, Any], parsed: ParsedQuery, charset: CharacterSet | None, *, explicit_vr: bool, send_empty: bool
) -> tuple[bytes, Loss] | str:
    """The response and its loss, or the field for want of which there is none."""
    for field, keyword in IDENTIFIER_FIELDS.items():
        text = str(row.get(field) or "")
        # A name is the patient ID where there is none.
        asked = [keyword, "PatientName"] if field == "patient_id" else [keyword]
        if any(asks_for(parsed.requested, one) for one in asked) and text and not can_be_exact(text, field, charset):
            return f"unfit {field}"
    try:
        response = encode_response(row, parsed, station_aet="ASKING", charset=charset, send_empty=send_empty)
    except RecordRejected as error:
        return error.field
    loss = transcode(response, charset) if charset else Loss.NONE
    if not send_empty:
        response.walk(drop_what_the_charset_left_nothing_of)
    encoded = encode(response, not explicit_vr, True)
    assert encoded is not None
    return encoded, loss


def asks_for(keys: tuple[RequestedKey, ...], keyword: str) -> bool:
    """Whether a query asks for an attribute, in whatever sequence."""
    known = {key.attribute.keyword for key in keys if key.attribute}
    return keyword in known or any(asks_for(key.children, keyword) for key in keys)


def can_be_exact(text: str, field: str, charset: CharacterSet | None) -> bool:
    if len(text) > WORKLIST_FIELDS[field].max_length or text != text.strip():
        return False
    if field == "study_instance_uid":
        return text.isascii()
    encoded = charset and charset.encode(text, "LO")
    return encoded is None or (encoded.loss is Loss.NONE and unicodedata.is_normalized("NFC", text))


def drop_what_the_charset_left_nothing_of(level: Dataset, element: DataElement) -> None:
    if element.VR != "SQ" and element.is_empty:
        del level[element.tag]


@pytest.mark.parametrize("remembered", [0, 256], ids=["many different values", "few"])
@given(
    rows=st.lists(ROWS, min_size=1, max_size=5),
    asked=IDENTIFIERS,
    terms=st.sampled_from(CHARSETS),
    explicit_vr=st.booleans(),
    send_empty=st.booleans(),
)
def test_the_bytes_are_pydicoms(
    remembered: int,
    rows: list[dict[str, Any]],
    asked: Dataset,
    terms: tuple[str, ...] | None,
    explicit_vr: bool,
    send_empty: bool,
) -> None:
    rows = [{"id": number, "dicom_attributes": None, **row} for number, row in enumerate(rows * 2, start=1)]
    charset = CharacterSet(terms) if terms else None
    parsed = parse_query(asked)
    writing = Writing(explicit_vr=explicit_vr, station_aet="ASKING", send_empty=send_empty, charset=charset)
    encoder = ResponseEncoder(parsed, writing)
    with pytest.MonkeyPatch.context() as changed:
        changed.setattr(wire_values, "REMEMBERED_VALUES", remembered)
        encoder.encode([["A"] * len(encoder.fields), ["B"] * len(encoder.fields)])
        batch = encoder.encode([[row[name] for name in encoder.fields] for row in rows])
    expected = [by_pydicom(row, parsed, charset, explicit_vr=explicit_vr, send_empty=send_empty) for row in rows]
    assert batch.identifiers == [one[0] for one in expected if not isinstance(one, str)]
    refused = {row["id"]: one for row, one in zip(rows, expected, strict=True) if isinstance(one, str)}
    assert {number for number, _ in batch.left_out + batch.unfit} == set(refused)
    unfit = {number for number, one in refused.items() if one.startswith("unfit ")}
    assert {number for number, _ in batch.unfit} == unfit
    assert {number: name for number, name in batch.left_out if number not in unfit} == {
        number: name for number, name in refused.items() if number not in unfit
    }
    for loss in (Loss.TRANSLITERATED, Loss.INCOMPLETE):
        lost = [
            row["id"] for row, one in zip(rows, expected, strict=True) if not isinstance(one, str) and one[1] is loss
        ]
        assert batch.losses.get(loss, []) == lost


def test_what_is_remembered_of_many_different_values_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire_values, "REMEMBERED_VALUES", 100)
    asked = Dataset()
    asked.PatientName = None
    encoder = ResponseEncoder(parse_query(asked), Writing(explicit_vr=True, station_aet="ASKING"))
    for start in range(0, 2000, 50):
        names = [f"Ł{number}" for number in range(start, start + 50)]
        batch = encoder.encode([[number, name, "P"] for number, name in enumerate(names)])
        assert all(
            b"ISO_IR 192" in one and name.encode() in one for one, name in zip(batch.identifiers, names, strict=True)
        )
    (value,) = encoder._level.values
    assert len(value) <= 150
    assert len(value.foreign) <= 150


def test_text_that_is_too_long_for_its_representation_goes_out_as_unknown() -> None:
    asked = Dataset()
    asked.StudyDescription = None
    encoder = ResponseEncoder(parse_query(asked), Writing(explicit_vr=True, station_aet="ASKING"))
    (response,) = encoder.encode([[1, "x" * 70000]]).identifiers
    assert response == b"\x08\x00\x30\x10UN\x00\x00" + (70000).to_bytes(4, "little") + b"x" * 70000


def by_pynetdicom(message_id: int, context_id: int, max_length: int, ending: Ending, data: bytes | None) -> bytes:
    response = C_FIND()
    response.MessageIDBeingRespondedTo, response.AffectedSOPClassUID = message_id, "1.2.840.10008.5.1.4.31"
    response.Status = ending.status
    if data is not None:
        response.Identifier = BytesIO(data)
    if ending.comment:
        response.ErrorComment = ending.comment
    if ending.tag:
        response.OffendingElement = ending.tag
    message = C_FIND_RSP()
    message.primitive_to_message(response)
    written = b""
    for fragment in message.encode_msg(context_id, max_length):
        for context, value in fragment.presentation_data_value_list:
            written += b"\x04\x00" + (len(value) + 5).to_bytes(4, "big") + (len(value) + 1).to_bytes(4, "big")
            written += bytes([context]) + value
    return written


def find_writer(context_id: int, message_id: int, max_length: int) -> ResponseWriter:
    return ResponseWriter(
        operation=Operation.C_FIND,
        sop_class=WORKLIST_FIND,
        context_id=context_id,
        message_id=message_id,
        max_length=max_length,
    )


@given(
    message_id=st.integers(0, 0xFFFF),
    context_id=st.integers(0, 127).map(lambda number: 2 * number + 1),
    max_length=st.one_of(st.just(0), st.integers(7, 300)),
    data=st.binary(min_size=1, max_size=400),
)
def test_pending_responses_are_those_of_pynetdicom(
    message_id: int, context_id: int, max_length: int, data: bytes
) -> None:
    writer = find_writer(context_id, message_id, max_length)
    expected = by_pynetdicom(message_id, context_id, max_length, Ending(status=0xFF01), data)
    assert b"".join(writer.pending([data, data], 0xFF01)) == expected * 2


@pytest.mark.parametrize(
    "ending",
    [
        Ending(status=0),
        Ending(status=0xFE00),
        Ending(status=0xA700, comment="odd"),
        Ending(status=0xA900, comment="evil", tag=0x00100020),
    ],
)
def test_the_last_response_is_that_of_pynetdicom(ending: Ending) -> None:
    writer = find_writer(3, 513, 16384)
    assert writer.ending(ending) == by_pynetdicom(513, 3, 16384, ending, None)


def test_a_comment_has_64_characters_at_most_in_ascii() -> None:
    written = find_writer(1, 1, 0).ending(Ending(status=0xC001, comment="é" * 99))
    assert written.endswith(b"\x00\x00\x02\x09\x40\x00\x00\x00" + b"?" * 64)
