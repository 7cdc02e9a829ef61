"""Writing the values of one attribute: a column of stored values to a column of data elements.

Lives in the server process. A value that occurs again (a date, a station, a description) is looked up, not written
anew. `encode_elements` joins the columns to data sets and items.

Source: DICOM PS3.5 6.2 (padding), 7.1.2 and 7.1.3 (explicit and implicit VR).
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeGuard

from pydicom.valuerep import EXPLICIT_VR_LENGTH_32

from pylantir.dicom.find.attributes import WIRE_STATUSES, WorklistAttribute
from pylantir.dicom.find.encode_attributes import encode_text
from pylantir.dicom.text.charset import CharacterSet, Encoded, Loss
from pylantir.dicom.text.identifiers import IDENTIFIERS

KG_PER_LB = 0.45359237
REMEMBERED_VALUES = 256
UNKNOWN = (None, "")
_UNSIGNED_MAX = _SHORT_MAX = 0xFFFF
CODE_FIELDS = ("protocol_name", "hisris_coding_designator")
_LONGEST_CODE = 16

Columns = Mapping[str, Sequence[object]]
"""Field -> its values as stored, one per row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Writing:
    """How the responses to one query are written.

    Attributes:
        explicit_vr: Explicit VR little endian, else implicit.
        station_aet: The asking station: an item that is planned for no station in particular is offered as its own,
            because the attribute may not be empty.
        send_empty: Attributes without a value are in the response as well.
        charset: For text beyond ASCII; None is UTF-8.
    """

    explicit_vr: bool
    station_aet: str
    send_empty: bool = True
    charset: CharacterSet | None = None


class Starts(dict[int, bytes]):
    """Return the header of an element whose value has this many bytes: tag, VR where it is explicit, and length."""

    def __init__(self, tag: int, vr: str, writing: Writing) -> None:
        super().__init__()
        self._tag = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
        self._vr = vr if writing.explicit_vr else None
        if not writing.send_empty:
            self[0] = b""

    def __missing__(self, length: int) -> bytes:
        vr = self._vr
        if vr is None:
            start = self._tag + struct.pack("<I", length)
        elif vr in EXPLICIT_VR_LENGTH_32:
            start = self._tag + vr.encode() + struct.pack("<HI", 0, length)
        elif length <= _SHORT_MAX:
            start = self._tag + vr.encode() + struct.pack("<H", length)
        else:
            # PS3.5 6.2.2, note 5.
            start = self._tag + b"UN" + struct.pack("<HI", 0, length)
        self[length] = start
        return start


class Value(dict[object, bytes]):
    """An attribute with a value: what is stored -> its element, written when it first occurs.

    Attributes:
        foreign: What is stored -> how it is written, for the values among them that are not ASCII.
    """

    def __init__(self, tag: int, attribute: WorklistAttribute, writing: Writing, *, is_code: bool) -> None:
        super().__init__()
        self.fields = attribute.fields
        self.foreign: dict[object, Encoded] = {}
        # A code's parts are only written where there is a code, and then none is missing.
        self.is_required = attribute.return_type == "1" and not is_code
        self._is_code = is_code
        self._is_identifier = IDENTIFIERS.issuperset(self.fields[:1])
        self._vr, self._charset = attribute.vr, writing.charset
        self._starts = Starts(tag, attribute.vr, writing)
        self._padding = b"\0" if attribute.vr == "UI" else b" "
        self._in_wire_form = _wire_form(attribute)
        if attribute.keyword == "ScheduledStationAETitle":
            self.is_required = False
            self._in_wire_form = lambda text: text or writing.station_aet

    def choose(self, columns: Columns) -> Sequence[object]:
        """For each row, return the first of the fields that has a value."""
        useful: list[Sequence[object]] = []
        for name in self.fields:
            column = columns[name]
            if any(column):
                useful.append(column)
                if is_full(column):
                    break
        if len(useful) < 2:
            return useful[0] if useful else columns[self.fields[0]]
        return [next(filter(None, values), None) for values in zip(*useful, strict=True)]

    def chosen(self, columns: Columns) -> Sequence[object]:
        """For each row, return the value to write; a part of a code only where the row has a code."""
        values = self.choose(columns)
        if not self._is_code:
            return values
        return [value if there else None for value, there in zip(values, has_plain_code(columns), strict=True)]

    def write(self, values: Sequence[object]) -> Iterable[bytes]:
        """Write the element for each value: few different ones are looked up, many are written anew."""
        if len(self) > REMEMBERED_VALUES:
            if self._in_wire_form is None and _is_plain(values):
                starts, padding = self._starts, (b"", self._padding)
                return [
                    starts[(length := len(text)) + (length & 1)] + text.encode() + padding[length & 1]
                    for text in values
                ]
            self.clear()
            self.foreign.clear()
        return map(self.__getitem__, values)

    def __missing__(self, stored: object) -> bytes:
        text = stored if isinstance(stored, str) else "" if stored is None else str(stored)
        if self._in_wire_form is not None:
            text = self._in_wire_form(text)
        data = text.encode() if text.isascii() and text.isprintable() else self._beyond_ascii(stored, text)
        length = len(data)
        if length & 1:
            data += self._padding
            length += 1
        written = self._starts[length] + data
        # Numbers are not looked up: 1 and 1.0 are one key of a dictionary, but two texts.
        if text is stored or stored is None:
            self[stored] = written
        return written

    def _beyond_ascii(self, stored: object, text: str) -> bytes:
        """Write a text that is not plain, without invisible characters, in the scanner's character set."""
        if self._is_identifier:
            # The text fits: a row whose text does not fit was left out before.
            data = self._charset.encode_exactly(text) if self._charset else text.encode()
            encoded: Encoded | None = Encoded(data=data, loss=Loss.NONE, is_ascii=text.isascii())
        else:
            encoded = encode_text(text, self._vr, self._charset)
        assert encoded is not None  # noqa: S101 - only an exact text may not be writable
        if self._vr == "PN" and not encoded.data.strip(b" ^="):
            encoded = Encoded(data=b"?", loss=Loss.INCOMPLETE, is_ascii=True)
        self.foreign[stored] = encoded
        return encoded.data


class Number(Value):
    """An attribute of VR US; a stored value that is not such a number counts as no value."""

    def __missing__(self, stored: object) -> bytes:
        text = "" if stored is None else str(stored)
        is_number = text.isdecimal() and int(text) <= _UNSIGNED_MAX
        data = int(text).to_bytes(2, "little") if is_number else b""
        return self._starts[len(data)] + data


def special_code(columns: Columns, row: int) -> list[Mapping[str, str]] | None:
    """Return the protocol as a code, where it is too long for Code Value or may not be transliterated."""
    name, scheme = (columns[field][row] for field in CODE_FIELDS)
    if name in UNKNOWN or scheme in UNKNOWN or _is_plain_code(name, scheme):
        return None
    value, designator = str(name), str(scheme)
    keyword = "CodeValue" if len(value) <= _LONGEST_CODE else "LongCodeValue"
    return [{keyword: value, "CodingSchemeDesignator": designator, "CodeMeaning": value}]


def has_plain_code(columns: Columns) -> list[bool]:
    """For each row, return whether its protocol is a plain code; `special_code` writes the others."""
    value, scheme = (columns[name] for name in CODE_FIELDS)
    return [_is_plain_code(one, other) for one, other in zip(value, scheme, strict=True)]


@functools.lru_cache(maxsize=1024)
def _is_plain_code(value: object, scheme: object) -> bool:
    if value in UNKNOWN or scheme in UNKNOWN:
        return False
    text = str(value)
    return len(text) <= _LONGEST_CODE and (text + str(scheme)).isascii()


def is_full(column: Sequence[object]) -> bool:
    """Whether every row has a value."""
    return None not in column and "" not in column


def _is_plain(values: Sequence[object]) -> TypeGuard[Sequence[str]]:
    """Whether all are ASCII text without control characters."""
    try:
        whole = "".join(values)  # type: ignore[arg-type]  # whether they are text is the question
        return "" not in values and whole.isascii() and whole.isprintable()
    except TypeError:
        return False


def _wire_form(attribute: WorklistAttribute) -> Callable[[str], str] | None:
    """Return the function that turns an attribute's stored text into DICOM's; None where both are the same."""
    if attribute.keyword == "PatientWeight":
        return _kilograms
    if attribute.matching == "status":
        return lambda text: WIRE_STATUSES.get(text, text)
    return None


def _kilograms(pounds: str) -> str:
    try:
        weight_kg = float(pounds) * KG_PER_LB
    except ValueError:
        return ""
    return f"{weight_kg:.2f}".rstrip("0").rstrip(".") if 0 < weight_kg < 1000 else ""
