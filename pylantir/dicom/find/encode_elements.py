"""Writing data sets for many rows at a time: columns of stored values to columns of bytes.

Lives in the server process. What a query asks for is compiled into levels (the data set, or an item of a sequence),
each of which joins the columns of its elements; `encode_values` writes these.

Source: DICOM PS3.5 7.1 (data elements), 7.5 (sequences).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from itertools import repeat
from operator import attrgetter, itemgetter

from pylantir.dicom.find.attributes import PROTOCOL_CODE, SPS
from pylantir.dicom.find.encode_attributes import ItemsElement, Notes, TextElement, stored_attributes, target_of
from pylantir.dicom.find.encode_values import (
    CODE_FIELDS,
    Columns,
    Number,
    Starts,
    Value,
    Writing,
    has_plain_code,
    special_code,
)
from pylantir.dicom.find.matching import RequestedKey
from pylantir.entry import ATTRIBUTES_FIELD

_ITEM = struct.Struct("<HHI")


class Level:
    """The attributes of a data set, or of an item of a sequence."""

    def __init__(self, keys: Iterable[RequestedKey], writing: Writing, notes: Notes, *, is_code: bool = False) -> None:
        compiled = [(key.tag, _compile(key, writing, notes, is_code=is_code)) for key in keys]
        # In a data set, the elements stand in the order of their tags.
        self._parts = [part for _, part in sorted(compiled, key=itemgetter(0))]
        self.values: list[Value] = []
        self.fields: tuple[str, ...] = ()
        for _, part in compiled:
            if isinstance(part, Value):
                self.values.append(part)
                self.fields += part.fields
            elif not isinstance(part, bytes):
                self.values += part.values
                self.fields += part.fields

    def encode(self, columns: Columns, count: int) -> list[bytes]:
        """Write the level for each of `count` rows."""
        return list(map(b"".join, zip(*self._columns(columns, count), strict=True))) if self._parts else [b""] * count

    def _columns(self, columns: Columns, count: int) -> Iterator[Iterable[bytes]]:
        for part in self._parts:
            if isinstance(part, bytes):
                yield repeat(part, count)
            elif isinstance(part, Value):
                yield part.write(part.chosen(columns))
            else:
                yield part.encode(columns, count)


def _compile(
    key: RequestedKey, writing: Writing, notes: Notes, *, is_code: bool
) -> bytes | Value | SequenceItem | FurtherAttribute:
    attribute = key.attribute
    empty = Starts(key.tag, key.vr, writing)[0]
    if attribute is None:
        return empty
    if key.vr == "SQ" and attribute.keyword == SPS:
        return SequenceItem(key, writing, notes)
    if target_of(attribute.path, attribute.keyword) is not None:
        return FurtherAttribute(key, writing, notes)
    if is_code and attribute.keyword == "LongCodeValue":
        # A value that fits into Code Value is written there only.
        return b""
    if not attribute.fields:
        return empty
    kind = Number if key.vr == "US" else Value
    return kind(key.tag, attribute, writing, is_code=is_code)


class SequenceItem:
    """A sequence with one item, or for a code, none where there is no code."""

    def __init__(self, key: RequestedKey, writing: Writing, notes: Notes, *, is_code: bool = False) -> None:
        self._is_code = is_code
        self._level = Level(key.children, writing, notes, is_code=is_code)
        self._starts = Starts(key.tag, "SQ", writing)
        self.values = self._level.values
        self.fields = (*self._level.fields, *(CODE_FIELDS if is_code else ()))

    def encode(self, columns: Columns, count: int) -> list[bytes]:
        """Write the sequence for each of `count` rows."""
        starts, begin_item = self._starts, _ITEM.pack
        items = self._level.encode(columns, count)
        written = [starts[len(item) + _ITEM.size] + begin_item(0xFFFE, 0xE000, len(item)) + item for item in items]
        if not self._is_code:
            return written
        return [one if there else starts[0] for one, there in zip(written, has_plain_code(columns), strict=True)]


class FurtherAttribute:
    """An attribute that some rows have among their further attributes; for the others a worklist field may give it."""

    def __init__(self, key: RequestedKey, writing: Writing, notes: Notes) -> None:
        attribute = key.attribute
        target = target_of(attribute.path, attribute.keyword) if attribute else None
        assert attribute is not None  # noqa: S101 - see _compile
        assert target is not None  # noqa: S101 - see _compile
        starts = Starts(key.tag, key.vr, writing)
        self._path, self._notes = target.path, notes
        self._own: TextElement | ItemsElement
        self._otherwise: bytes | Value | SequenceItem = starts[0]
        self._makes_codes = attribute.keyword == PROTOCOL_CODE
        if key.vr == "SQ":
            self._own = ItemsElement(
                [
                    TextElement(
                        child.attribute.keyword, child.vr, Starts(child.tag, child.vr, writing), writing.charset
                    )
                    for child in sorted(key.children, key=attrgetter("tag"))
                    if child.attribute is not None
                ],
                starts,
                target,
            )
            if self._makes_codes:
                self._otherwise = SequenceItem(key, writing, notes, is_code=True)
        else:
            self._own = TextElement(attribute.keyword, key.vr, starts, writing.charset)
            if attribute.fields:
                self._otherwise = Value(key.tag, attribute, writing, is_code=False)
        other = self._otherwise
        self.values = [] if isinstance(other, bytes) else [other] if isinstance(other, Value) else other.values
        self.fields = (ATTRIBUTES_FIELD, *(() if isinstance(other, bytes) else other.fields))

    def encode(self, columns: Columns, count: int) -> list[bytes]:
        """Write the attribute for each of `count` rows."""
        other = self._otherwise
        if isinstance(other, bytes):
            written = [other] * count
        elif isinstance(other, Value):
            written = list(other.write(other.chosen(columns)))
        else:
            written = other.encode(columns, count)
        for row, text in enumerate(columns[ATTRIBUTES_FIELD]):
            own = stored_attributes(text).get(self._path) if isinstance(text, str) and text else None
            if own is None and self._makes_codes:
                own = special_code(columns, row)
            if own is not None:
                written[row] = self._own.encode(own, row, self._notes)
        return written
