"""What a scanner's Specific Character Set declares."""

from __future__ import annotations

import codecs
import warnings
from collections.abc import Sequence
from encodings.aliases import aliases
from io import BytesIO

import pytest
from pydicom.charset import python_encoding
from pynetdicom.dsutils import decode

from pylantir.dicom.find.matching import decode_identifier, parse_query
from pylantir.dicom.mpps.decoding import read_attributes
from pylantir.dicom.text.declared import declared_encodings
from pylantir.errors import InvalidQuery

UTF_8, LATIN_1 = "utf-8", "iso8859-1"


def codecs_of(terms: Sequence[str]) -> list[str] | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        names = declared_encodings(terms)
    return None if names is None else [codecs.lookup(name).name for name in names]


def element(tag: bytes, value: bytes) -> bytes:
    return tag + (len(value) + len(value) % 2).to_bytes(4, "little") + value + b" " * (len(value) % 2)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("ISO_IR 192", [UTF_8]),
        ("iso_ir 192", [UTF_8]),
        ("ISO 2022 IR 192", [UTF_8]),
        ("ISO-IR192\0", [UTF_8]),
        ("utf-8", [UTF_8]),
        ("ISO_IR 192\\ISO 2022 IR 100", [UTF_8]),
        ("ISO IR 100", [LATIN_1]),
        ("iso 2022 ir 100", [LATIN_1]),
        ("\\ISO-2022-IR-87", [LATIN_1, "iso2022_jp"]),
        ("iso-8859-5", ["iso8859-5"]),
        ("gb18030", ["gb18030"]),
    ],
)
def test_another_spelling_of_a_character_set_is_understood(said: str, meant: list[str]) -> None:
    assert codecs_of(said.split("\\")) == meant


@pytest.mark.parametrize("said", ["", "\\", "ISO_IR 6", "\\ISO_IR 192", "ISO_IR 999", "ANSI", "a\0b", "ÿ", "x" * 5000])
def test_ascii_and_unknown_terms_declare_nothing(said: str) -> None:
    assert codecs_of(said.split("\\")) is None


def test_no_codec_of_python_is_ever_used_that_is_none_of_dicoms() -> None:
    """Some of them take hours for some megabytes, or turn a patient ID into nothing, which matches everybody."""
    dicoms = {codecs.lookup(name).name for name in python_encoding.values()}
    for name in {"punycode", "idna", "unicode_escape", "utf-7", "undefined", *aliases, *aliases.values()}:
        assert dicoms.issuperset(codecs_of([name]) or []), name


@pytest.mark.parametrize("declared", ["iso_ir 192", "ISO 2022 IR 192", "\\ISO_IR 192", "punycode", "ANSI"])
def test_queries_and_reports_read_a_name_alike_whatever_is_declared(declared: str) -> None:
    data = element(b"\x08\x00\x05\x00", declared.encode()) + element(b"\x10\x00\x10\x00", "Müller".encode())
    assert parse_query(decode(BytesIO(data), True, True)).query.like == {"patient_name": "Müller"}
    report = read_attributes(data, explicit_vr=False).attributes
    assert report["00100010"]["Value"] == [{"Alphabetic": "Müller"}]


@pytest.mark.parametrize("explicit_vr", [False, True])
@pytest.mark.parametrize("group_length", [b"", b"\x08\x00\x00\x00UL\x04\x00\0\0\0\0"])
@pytest.mark.parametrize("declared", [b"ISO_IR 100\0\\ISO_IR 144\0", b"\0ISO_IR 100\0", b"ISO_IR 100\0\\\0"])
def test_terms_padded_with_nul_are_read(declared: bytes, group_length: bytes, explicit_vr: bool) -> None:
    def element(tag: bytes, vr: bytes, value: bytes) -> bytes:
        length = len(value).to_bytes(2 if explicit_vr else 4, "little")
        return tag + (vr if explicit_vr else b"") + length + value

    if group_length and not explicit_vr:
        group_length = b"\x08\x00\x00\x00\x04\x00\x00\x00\0\0\0\0"
    data = group_length + element(b"\x08\x00\x05\x00", b"CS", declared)
    data += element(b"\x10\x00\x10\x00", b"PN", "Müller".encode("latin-1"))
    identifier = decode_identifier(data, explicit_vr=explicit_vr)
    assert parse_query(identifier).query.like == {"patient_name": "Müller"}


def test_a_flood_of_escape_sequences_is_not_decoded() -> None:
    declared = element(b"\x08\x00\x05\x00", b"\\ISO 2022 IR 87")
    name = element(b"\x10\x00\x10\x00", b"\x1b$B;3ED\x1b(B")
    flood = element(b"\x40\x00\x54\x02", b"\x1b" * 2_000_000)
    reading = read_attributes(declared + name + flood, explicit_vr=False)
    assert reading.attributes == {"00100010": {"vr": "PN", "Value": [{"Alphabetic": "山田"}]}}
    assert reading.oddities == (("00400254", "left out: too many escape sequences"),)
    asked = declared + element(b"\x10\x00\x20\x00", b"\x1b" * 200_000)
    with pytest.raises(InvalidQuery, match="escape"):
        parse_query(decode_identifier(asked, explicit_vr=False))


def test_a_step_declares_a_character_set_of_its_own() -> None:
    physician = "Müller".encode("latin-1")
    step = element(b"\x08\x00\x05\x00", b"iso-ir 100") + element(b"\x40\x00\x06\x00", physician)
    sequence = element(b"\x40\x00\x00\x01", element(b"\xfe\xff\x00\xe0", step))
    data = element(b"\x08\x00\x05\x00", b"ISO_IR 144") + sequence + element(b"\x40\x00\x01\x10", b"")
    assert parse_query(decode(BytesIO(data), True, True)).query.like == {"performing_physician": "Müller"}
