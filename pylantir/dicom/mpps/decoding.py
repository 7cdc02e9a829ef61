"""Reading a scanner's report: encoded data sets to attributes in the DICOM JSON model. Text becomes Unicode.

Lives in the server process. A stranger's bytes come in; what can be read goes out, with a list of what is odd. An
element that breaks its value representation is stored as the text that came, or left out; only a data set that does not
add up is refused as a whole. No value is ever quoted. It reads 60 000 referenced images in a fraction of the time that
a general library takes: each different value is converted once.

Source: DICOM PS3.5 6.2 (value representations), 7.1 and 7.5 (encoding); PS3.18 Annex F (the JSON model).
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from pydicom.datadict import dictionary_VR

from pylantir.dicom.mpps.values import IN_CHARACTER_SET, LONG_VRS, SHORT_VRS, OddValue, convert_value
from pylantir.dicom.text.declared import declared_encodings
from pylantir.errors import MppsRefused
from pylantir.mpps.model import (
    ACCESSION_NUMBER,
    PATIENT_ID,
    SPECIFIC_CHARACTER_SET,
    STATUS,
    STEP_SEQUENCE,
    STUDY_UID,
    DimseStatus,
    ErrorId,
    Oddity,
)

MAX_NESTING = 16
MAX_ESCAPES = 20_000
"""How many escape sequences of its texts are decoded in one report: each may cost the library twenty microseconds."""
_REMEMBERED_VALUES = 4096
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_HEADER = struct.Struct("<HHI")
_SHORT_VRS: Mapping[bytes, str] = MappingProxyType({vr.encode(): vr for vr in SHORT_VRS})


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What could be read of a report."""

    attributes: Mapping[str, Mapping[str, Any]]
    oddities: tuple[Oddity, ...]


def read_attributes(data: bytes, *, explicit_vr: bool) -> Reading:
    """Read an attribute list or modification list.

    Args:
        data: In little endian.
        explicit_vr: Whether each element says its value representation.

    Raises:
        MppsRefused: The data set is cut short, or does not add up.
    """
    reader = _Reader(data)
    attributes, _ = reader.level(0, len(data), _Form(explicit_vr, None, 1))
    return Reading(attributes=attributes, oddities=tuple(reader.oddities))


_VITAL = frozenset({PATIENT_ID, STUDY_UID, ACCESSION_NUMBER, STATUS, STEP_SEQUENCE})
"""These say which patient, study or step is meant: an unreadable value in them is not left out."""


@dataclass(frozen=True, slots=True)
class _Form:
    """How a level is encoded: its character sets (None: none is declared), and how deep it is nested."""

    explicit_vr: bool
    encodings: tuple[str, ...] | None
    depth: int


class _Reader:
    """One walk over a data set."""

    def __init__(self, data: bytes) -> None:
        self.oddities: list[Oddity] = []
        self._data = data
        self._escapes = 0
        self._names: dict[int, str] = {}
        self._known: dict[tuple[str, bytes, object], Mapping[str, Any]] = {}

    def level(self, start: int, end: int, form: _Form) -> tuple[dict[str, Mapping[str, Any]], int]:
        """Read the elements of a data set or an item, up to its end or delimiter; return the position after it."""
        attributes: dict[str, Mapping[str, Any]] = {}
        data, known_names = self._data, self._names
        while start < end:
            short = _SHORT_VRS.get(data[start + 4 : start + 6]) if form.explicit_vr else None
            if short is not None and start + 8 <= end and data[start : start + 2] != b"\xfe\xff":
                # Nearly all of the elements of a large report.
                vr, tag = short, data[start + 1] << 24 | data[start] << 16 | data[start + 3] << 8 | data[start + 2]
                length = data[start + 7] << 8 | data[start + 6]
                start += 8
            else:
                tag, vr, length, start = self._header(start, end, form)
                if tag == _ITEM_END:
                    break
            name = known_names.get(tag) or known_names.setdefault(tag, f"{tag:08X}")
            after = start + length
            if length != _UNDEFINED and after > end:
                raise _unreadable(name, "cut short")
            if vr == "SQ" or length == _UNDEFINED:
                value, after = self._sequence(name, vr, start, end if length == _UNDEFINED else after, length, form)
            else:
                value = self._value(name, vr, self._data[start:after], form)
            start = after
            if name == SPECIFIC_CHARACTER_SET:
                terms = [term or "" for term in (value or {}).get("Value", ())]
                form = _Form(form.explicit_vr, declared_encodings(terms), form.depth)
            elif value is not None and tag & 0xFFFF and attributes.setdefault(name, value) != value:
                self._note_twice(name)
        return attributes, start

    def _note_twice(self, name: str) -> None:
        """Keep the first of two elements of one tag, but never guess which patient or study is meant."""
        if name in _VITAL:
            raise _unreadable(name, "it stands twice")
        self.oddities.append((name, "left out: it stands twice"))

    def _header(self, start: int, end: int, form: _Form) -> tuple[int, str, int, int]:
        """Return an element's tag, value representation, length of the value, and where the value begins."""
        if start + 8 > end:
            raise _unreadable("00000000", "the data set is cut short")
        group, element, length = _HEADER.unpack_from(self._data, start)
        tag = group << 16 | element
        after = start + 8
        vr = _known_vr(tag)
        if not form.explicit_vr or group == 0xFFFE:
            return tag, vr, length, after
        given = self._data[start + 4 : start + 6].decode("latin-1")
        if not (given.isalpha() and given.isupper()) and after + length <= end:
            # Some writers fall back to implicit VR within sequences.
            return tag, vr, length, after
        is_long = given in LONG_VRS or (given not in SHORT_VRS and self._is_long_form(start, end, tag))
        if is_long and start + 12 > end:
            raise _unreadable(f"{tag:08X}", "cut short")
        place, size = (start + 8, 4) if is_long else (start + 6, 2)
        length, after = int.from_bytes(self._data[place : place + size], "little"), place + size
        # A system on the way may have sent it as UN because it did not know it; it may be known here.
        vr = vr if given == "UN" and vr != "UN" else given
        return tag, vr, length, after

    def _is_long_form(self, start: int, end: int, tag: int) -> bool:
        """Return whether an element of an unknown VR has a length of four bytes: then a later element follows."""
        if self._data[start + 6 : start + 8] != b"\0\0" or start + 12 > end:
            return False
        after = start + 12 + int.from_bytes(self._data[start + 8 : start + 12], "little")
        if after == end:
            return True
        if after + 8 > end:
            return False
        group, element, _ = _HEADER.unpack_from(self._data, after)
        return bool(group << 16 | element) and group << 16 | element > tag

    def _sequence(
        self, name: str, vr: str, start: int, end: int, length: int, form: _Form
    ) -> tuple[Mapping[str, Any] | None, int]:
        """Read the items of a sequence; one that cannot be read and whose end is known is left out."""
        if vr == "UN":
            # PS3.5 6.2.2: the items of a sequence sent as UN are in implicit VR.
            form = _Form(False, form.encodings, form.depth)
        inner = _Form(form.explicit_vr, form.encodings, form.depth + 1)
        values: list[Mapping[str, Any]] = []
        try:
            while start < end:
                if start + 8 > end:
                    raise _unreadable(name, "cut short")
                group, element, item_length = _HEADER.unpack_from(self._data, start)
                start += 8
                if group << 16 | element == _SEQUENCE_END:
                    break
                if group << 16 | element != _ITEM:
                    raise _unreadable(name, "not a sequence of items")
                item_end = end if item_length == _UNDEFINED else start + item_length
                if item_end > end:
                    raise _unreadable(name, "cut short")
                if inner.depth > MAX_NESTING + 1:
                    raise _unreadable(name, "nested too deeply")
                item, after = self.level(start, item_end, inner)
                values.append(item)
                start = after if item_length == _UNDEFINED else item_end
        except MppsRefused as refusal:
            if length == _UNDEFINED or name in _VITAL:
                raise
            self.oddities.append((name, f"left out: {str(refusal).rpartition(': ')[2]}"))
            return None, end
        return ({"vr": "SQ", "Value": values} if values else {"vr": "SQ"}), start

    def _value(self, name: str, vr: str, raw: bytes, form: _Form) -> Mapping[str, Any] | None:
        key = (vr, raw, form.encodings)
        known = self._known.get(key)
        if known is not None:
            return known
        try:
            if form.encodings and vr in IN_CHARACTER_SET:
                self._count_escapes(raw)
            value = convert_value(vr, raw, form.encodings)
        except OddValue as odd:
            if name in _VITAL:
                raise _unreadable(name, str(odd)) from None
            self.oddities.append((name, f"left out: {odd}"))
            return None
        if vr in {"DS", "IS"} and any(isinstance(one, str) for one in value.get("Value", ())):
            self.oddities.append((name, "stored as the text that came: not a number"))
        elif len(self._known) < _REMEMBERED_VALUES:
            self._known[key] = value
        return value

    def _count_escapes(self, raw: bytes) -> None:
        self._escapes += raw.count(b"\x1b")
        if self._escapes > MAX_ESCAPES:
            raise OddValue("too many escape sequences")


@functools.cache
def _known_vr(tag: int) -> str:
    """Return the dictionary's value representation; reserved elements of private groups are their creators' names."""
    if tag >> 16 & 1:
        return "LO" if 0x10 <= tag & 0xFFFF <= 0xFF else "UN"
    try:
        vr = dictionary_VR(tag)
    except KeyError:
        return "UN"
    return {"US or SS": "US", "OB or OW": "OW", "US or OW": "OW", "US or SS or OW": "OW"}.get(vr, vr)


def _unreadable(tag: str, reason: str) -> MppsRefused:
    comment = f"({tag[:4]},{tag[4:]}) cannot be read: {reason}"
    return MppsRefused(DimseStatus.INVALID_VALUE, ErrorId.UNREADABLE, comment, (tag,))
