"""How much decoding a data set would cost, counted on its bytes before anybody decodes it.

Lives in the server process. Pure: encoded bytes come in, the first excess goes out in words. It reads headers only, and
stops at the first bound that is passed. What is malformed is left to the decoder, which says so.

Source: DICOM PS3.5 7.1 (data elements), 7.5 (sequences and items).
"""

from __future__ import annotations

import contextlib
import struct
from dataclasses import dataclass

from pydicom.datadict import dictionary_VR

_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_UNDEFINED = 0xFFFFFFFF
_ITEM_START = b"\xfe\xff\x00\xe0"
_LONG_VRS = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
_VALUE_BYTES = {"US": 2, "SS": 2, "UL": 4, "SL": 4, "FL": 4, "AT": 4, "FD": 8, "SV": 8, "UV": 8}
_UNSPLIT = frozenset({"LT", "OB", "OD", "OF", "OL", "OV", "OW", "SQ", "ST", "UN", "UR", "UT"})
"""A backslash in these is part of the text."""
_HEADER_BYTES = 8
_TAG_AND_LENGTH = struct.Struct("<HHI")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The most that a data set may have. Items of sequences count as elements.

    Attributes:
        unique: No element may stand twice in one data set or item: which of them counts would be a guess. None may end
            within its header.
    """

    elements: int
    values: int
    nesting: int
    unique: bool = False


IDENTIFIER_BOUNDS = Bounds(elements=2000, values=1000, nesting=64, unique=True)
REPORT_ELEMENTS = 20_000
REPORT_BYTES_PER_ELEMENT = 16
"""A report may have more elements than that, but not emptier ones: an image's reference has 25 bytes an element."""
REPORT_VALUES = 100_000


def report_bounds(data_bytes: int) -> Bounds:
    """Give the bounds of a report of this length."""
    elements = REPORT_ELEMENTS + data_bytes // REPORT_BYTES_PER_ELEMENT
    return Bounds(elements=elements, values=REPORT_VALUES, nesting=64)


class _Excess(Exception):
    """A bound is passed; says which."""


class _Malformed(Exception):
    """The bytes do not add up."""


def excess_of(data: bytes, bounds: Bounds, *, explicit_vr: bool) -> str | None:
    """Say in words what a data set has too much of; None if it is within the bounds.

    Args:
        data: Encoded in little endian.
        bounds: The most that it may have.
        explicit_vr: Whether each element says its value representation.
    """
    try:
        _Scan(data, bounds, explicit_vr=explicit_vr).elements(0, len(data), 1)
    except _Excess as excess:
        return str(excess)
    except _Malformed:
        pass
    return None


class _Scan:
    """One walk over a data set."""

    def __init__(self, data: bytes, bounds: Bounds, *, explicit_vr: bool) -> None:
        self._data = data
        self._bounds = bounds
        self._explicit_vr = explicit_vr
        self._elements_left = bounds.elements

    def elements(self, start: int, end: int, depth: int) -> int:
        """Walk over the elements of a data set or item to its end or delimiter; return the position after it."""
        if depth > self._bounds.nesting:
            raise _Excess(f"sequences nested deeper than {self._bounds.nesting} levels")
        seen: set[int] = set()
        while start < end:
            if self._bounds.unique and end - start < _HEADER_BYTES and any(self._data[start:end]):
                # The decoder passes over it, and without the key that it began the query selects too much.
                raise _Excess("an element that is cut short")
            tag, vr, length, start = self._header(start, end)
            if tag in {_ITEM_END, _SEQUENCE_END}:
                return start
            self._count_element()
            if tag in seen and self._bounds.unique:
                raise _Excess(f"({tag >> 16:04X},{tag & 0xFFFF:04X}) twice")
            seen.add(tag)
            if length == _UNDEFINED:
                start = self._items(start, end, depth)
                continue
            after = start + length
            if after > end:
                raise _Malformed
            if self._data.startswith(_ITEM_START, start, after):
                self._try_items(start, after, depth)
            else:
                self._count_values(tag, vr, start, after)
            start = after
        return start

    def _items(self, start: int, end: int, depth: int) -> int:
        """Walk over the items of a sequence; return the position after it."""
        while start < end:
            tag, length, start = self._item_header(start, end)
            if tag == _SEQUENCE_END:
                return start
            if tag != _ITEM:
                raise _Malformed
            self._count_element()
            if length == _UNDEFINED:
                start = self.elements(start, end, depth + 1)
            else:
                if start + length > end:
                    raise _Malformed
                self.elements(start, start + length, depth + 1)
                start += length
        return start

    def _try_items(self, start: int, end: int, depth: int) -> None:
        """Walk over a value that may be a sequence; if it turns out not to be one, its bytes do no harm."""
        with contextlib.suppress(_Malformed):
            self._items(start, end, depth)

    def _header(self, start: int, end: int) -> tuple[int, str | None, int, int]:
        """Tag, VR if there is one, length of the value, and where it begins."""
        tag, length, after = self._item_header(start, end)
        if not self._explicit_vr or tag >> 16 == _ITEM >> 16:
            return tag, None, length, after
        vr = self._data[start + 4 : start + 6]
        if not (vr.isalpha() and vr.isupper()):
            # Some writers fall back to implicit VR within sequences, and the decoder follows them.
            return tag, None, length, after
        if vr not in _LONG_VRS:
            return tag, vr.decode("ascii"), int.from_bytes(self._data[start + 6 : start + 8], "little"), after
        if start + 12 > end:
            raise _Malformed
        return tag, vr.decode("ascii"), int.from_bytes(self._data[start + 8 : start + 12], "little"), start + 12

    def _item_header(self, start: int, end: int) -> tuple[int, int, int]:
        if start + 8 > end:
            raise _Malformed
        group, element, length = _TAG_AND_LENGTH.unpack_from(self._data, start)
        return group << 16 | element, length, start + 8

    def _count_element(self) -> None:
        self._elements_left -= 1
        if self._elements_left < 0:
            raise _Excess(f"more than {self._bounds.elements} elements and items")

    def _count_values(self, tag: int, vr: str | None, start: int, end: int) -> None:
        most = self._bounds.values
        if end - start < most:
            return
        if vr is None:
            vr = _known_vr(tag)
        size = _VALUE_BYTES.get(vr or "")
        if size is not None:
            too_many = (end - start) // size > most
        else:
            too_many = vr not in _UNSPLIT and self._data.count(b"\\", start, end) >= most
        if too_many:
            raise _Excess(f"more than {most} values in ({tag >> 16:04X},{tag & 0xFFFF:04X})")


def _known_vr(tag: int) -> str | None:
    try:
        return dictionary_VR(tag)
    except KeyError:
        return None
