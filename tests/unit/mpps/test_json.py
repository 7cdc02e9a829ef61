"""Reports become JSON and come back the same; what is odd is stored as it came or left out, and never quoted."""

from __future__ import annotations

import json
import struct
import time
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pynetdicom.dsutils import decode, encode

from pylantir.dicom.mpps.decoding import Reading, read_attributes
from pylantir.dicom.mpps.encoding import write_attributes
from pylantir.errors import MppsRefused

words = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="\\^="), max_size=20)


def element(tag: int, vr: str, value: bytes) -> bytes:
    """In explicit VR, however little the value fits."""
    start = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr.encode()
    if vr in {"OB", "OW", "SQ", "UN", "UT"}:
        return start + struct.pack("<HI", 0, len(value)) + value
    return start + struct.pack("<H", len(value)) + value


def item(value: bytes) -> bytes:
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(value)) + value


def read(*elements: bytes) -> Reading:
    return read_attributes(b"".join(elements), explicit_vr=True)


@pytest.mark.parametrize("explicit_vr", [True, False])
@given(words, words, st.lists(words, max_size=3), st.integers(0, 65535))
def test_text_numbers_and_sequences_come_back(
    explicit_vr: bool, name: str, description: str, protocols: list[str], count: int
) -> None:
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientName = name.strip()
    dataset.PerformedProcedureStepDescription = description.strip()
    dataset.TotalNumberOfExposures = count
    dataset.EntranceDoseInmGy = "1.5"
    dataset.ExposureTime = "12"
    dataset.PerformedSeriesSequence = []
    for protocol in protocols:
        series = Dataset()
        series.ProtocolName = protocol.strip()
        dataset.PerformedSeriesSequence.append(series)
    reading = read_attributes(encode(dataset, not explicit_vr, True) or b"", explicit_vr=explicit_vr)
    assert reading.oddities == ()
    assert "00080005" not in reading.attributes
    stored = json.loads(json.dumps(reading.attributes))
    for again in (True, False):
        written = write_attributes(stored, explicit_vr=again)
        assert read_attributes(written, explicit_vr=again).attributes == stored
        back = decode(BytesIO(written), not again, True)
        assert str(back.PatientName).strip() == name.strip()
        assert back.TotalNumberOfExposures == count
        assert (back.EntranceDoseInmGy, back.ExposureTime) == (1.5, 12)
        assert [str(series.ProtocolName or "") for series in back.PerformedSeriesSequence] == [
            protocol.strip() for protocol in protocols
        ]


@given(st.binary(max_size=80), st.booleans())
def test_whatever_comes_is_read_or_refused(data: bytes, explicit_vr: bool) -> None:
    try:
        reading = read_attributes(data, explicit_vr=explicit_vr)
    except MppsRefused:
        return
    json.loads(json.dumps(reading.attributes, allow_nan=False))
    write_attributes(reading.attributes, explicit_vr=explicit_vr)


@pytest.mark.parametrize(
    ("tag", "vr", "value", "stored"),
    [
        (0x00101030, "DS", b"70kg", "70kg"),
        (0x00101020, "DS", b"1,70", "1,70"),
        (0x00181150, "IS", b"12 mAs", "12 mAs"),
        (0x00181152, "IS", b"12.5", 12.5),
        (0x00101030, "DS", b"NaN ", "NaN"),
        (0x00101030, "DS", b"1e999 ", "1e999"),
        (0x00101030, "DS", b"70.50 ", 70.5),
    ],
)
def test_a_number_that_is_none_is_stored_as_it_came(tag: int, vr: str, value: bytes, stored: Any) -> None:
    reading = read(element(tag, vr, value))
    assert reading.attributes[f"{tag:08X}"] == {"vr": vr, "Value": [stored]}
    assert [name for name, _ in reading.oddities] == ([f"{tag:08X}"] if isinstance(stored, str) else [])
    assert not any(value.decode().strip() in what for _, what in reading.oddities)
    assert read_attributes(write_attributes(reading.attributes, explicit_vr=True), explicit_vr=True) == reading


@pytest.mark.parametrize(
    "odd",
    [
        element(0x00280010, "US", b"1"),
        element(0x00189074, "FL", b"abc"),
        element(0x00189087, "FD", struct.pack("<d", float("nan"))),
        element(0x00291001, "XX", b"abcd"),
        struct.pack("<HH", 0x0029, 0x1001) + b"XX\0\0" + struct.pack("<I", 4) + b"abcd",
        struct.pack("<HH", 0x0029, 0x1001) + b"??" + struct.pack("<H", 4) + b"abcd",
        element(0x00081032, "SQ", b"no items"),
        element(0x00081032, "SQ", item(b"\x01")),
    ],
)
def test_an_element_that_cannot_be_read_is_left_out_alone(odd: bytes) -> None:
    before, after = element(0x00080060, "CS", b"MR"), element(0x00400253, "SH", b"PPS1")
    reading = read(*sorted([before, odd, after], key=lambda one: struct.unpack("<HH", one[:4])))
    assert set(reading.attributes) == {"00080060", "00400253"}
    assert len(reading.oddities) == 1


def nested(depth: int) -> bytes:
    value = b""
    for _ in range(depth):
        value = element(0x00400340, "SQ", item(value))
    return value


def test_what_is_nested_too_deeply_is_left_out() -> None:
    reading = read(nested(40), element(0x00400400, "LT", b"text"))
    assert "00400400" in reading.attributes
    assert len(reading.oddities) == 1


@pytest.mark.parametrize("data", [b"\x10\x00\x20\x00\x10\x00\x00\x00P1", b"\x10\x00", b"\x10\x00\x20\x00LO\x10\x00P1"])
def test_a_report_that_is_cut_short_is_refused_as_a_whole(data: bytes) -> None:
    # Half a patient ID may be somebody else's.
    with pytest.raises(MppsRefused) as refused:
        read_attributes(data, explicit_vr=b"LO" in data)
    assert refused.value.status == 0x0106
    assert "P1" not in str(refused.value)


@pytest.mark.filterwarnings("ignore:Unknown encoding")
@pytest.mark.parametrize(
    ("declared", "raw", "name"),
    [
        (None, "Müller".encode(), "Müller"),
        (None, "Müller".encode("latin-1"), "Müller"),
        ("ISO_IR 100", "Müller".encode("latin-1"), "Müller"),
        ("ISO_IR 144", "Щукин".encode("iso8859_5"), "Щукин"),
        ("NO_SUCH_SET", "Müller".encode(), "Müller"),
        (None, b"Doe\x00\x01", "Doe"),
    ],
)
def test_names_are_read_in_their_character_set_or_as_utf_8(declared: str | None, raw: bytes, name: str) -> None:
    elements = [element(0x00080005, "CS", declared.encode() + b" " * (len(declared) % 2))] if declared else []
    reading = read(*elements, element(0x00100010, "PN", raw))
    assert reading.attributes["00100010"] == {"vr": "PN", "Value": [{"Alphabetic": name}]}


def test_sequences_of_unknown_length_and_of_unknown_representation_are_read() -> None:
    inner = struct.pack("<HHI", 0x0020, 0x000D, 6) + b"1.2.3\0"
    whole = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF) + inner + struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
    end = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    tag = struct.pack("<HH", 0x0040, 0x0270)
    expected = {"00400270": {"vr": "SQ", "Value": [{"0020000D": {"vr": "UI", "Value": ["1.2.3"]}}]}}
    as_unknown = tag + b"UN\0\0" + struct.pack("<I", 0xFFFFFFFF) + whole + end
    assert read_attributes(as_unknown, explicit_vr=True).attributes == expected
    implicit = tag + struct.pack("<I", 0xFFFFFFFF) + whole + end
    assert read_attributes(implicit, explicit_vr=False).attributes == expected


def test_ten_times_as_many_references_take_ten_times_as_long_and_not_a_hundred_times() -> None:
    def read_s(count: int) -> float:
        references = b"".join(
            item(
                element(0x00081150, "UI", b"1.2.840.10008.5.1.4.1.1.4\0")
                + element(0x00081155, "UI", b"1.2.826.0.1.3680043.2.1125.%030d\0" % number)
            )
            for number in range(count)
        )
        data = element(0x00400340, "SQ", item(element(0x00081140, "SQ", references)))
        started = time.process_time()
        (series,) = read_attributes(data, explicit_vr=True).attributes["00400340"]["Value"]
        elapsed_s = time.process_time() - started
        assert len(series["00081140"]["Value"]) == count
        return elapsed_s

    assert read_s(60_000) < 50 * read_s(6_000)


def test_an_element_that_stands_twice_counts_once_and_never_if_it_names_the_patient() -> None:
    reading = read(element(0x00400254, "LO", b"one "), element(0x00400254, "LO", b"two "))
    assert reading.attributes["00400254"]["Value"] == ["one"]
    assert reading.oddities == (("00400254", "left out: it stands twice"),)
    with pytest.raises(MppsRefused):
        read(element(0x00100020, "LO", b"P1"), element(0x00100020, "LO", b"P2"))


@pytest.mark.parametrize(
    "encoded",
    [
        b"\x10\0\x20\0US\x01\0P",
        b"\x40\0\x70\x02SQ\0\0\x04\0\0\0text",
        b"\x40\0\x70\x02SQ\0\0\x08\0\0\0\xfe\xff\0\xe0\xff\0\0\0",
    ],
    ids=["a patient ID of one byte as US", "a text as the step", "a step that is cut short"],
)
def test_what_says_whom_or_which_step_is_meant_is_not_left_out(encoded: bytes) -> None:
    with pytest.raises(MppsRefused, match="cannot be read"):
        read_attributes(encoded, explicit_vr=True)
