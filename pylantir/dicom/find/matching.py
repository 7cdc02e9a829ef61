"""Reading a worklist query: what does this C-FIND identifier select, and what does it want back?

Lives in the server process. An identifier comes in, a `ParsedQuery` goes out. An identifier is a stranger's data:
whatever is in it, the answer is a query or `InvalidQuery`. Nothing here knows a database or an association.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset

from pylantir.dicom.find.attributes import SPS, WIRE_STATUSES, WorklistAttribute, attributes_by_place
from pylantir.dicom.find.datetimes import (
    Bounds,
    combined_period,
    date_bounds,
    single_date,
    single_times,
    time_bounds,
)
from pylantir.dicom.find.elements import (
    SPECIFIC_CHARACTER_SET,
    is_universal,
    read_element,
    settle_character_set,
    texts_of,
    vr_of_unknown,
)
from pylantir.errors import InvalidQuery
from pylantir.query import WorklistQuery, pattern_test

TIMEZONE_OFFSET = 0x00080201
_GROUP_LENGTH, _CHARACTER_SET = b"\x08\x00\x00\x00", b"\x08\x00\x05\x00"
"""The only elements at the beginning of an identifier that matter here, as they are written."""
_GROUP_LENGTH_BYTES = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestedKey:
    """One attribute that the response has to hold, whether it has a value or not.

    Attributes:
        tag: As 0xGGGGEEEE.
        vr: Value representation to answer in.
        attribute: What is known of it; None for an attribute that the worklist does not have.
        children: Of a sequence that is known: what its item has to hold.
    """

    tag: int
    vr: str
    attribute: WorklistAttribute | None = None
    children: tuple[RequestedKey, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedQuery:
    """What one identifier asks for.

    Attributes:
        query: The matching keys.
        requested: The attributes to return, in the identifier's order.
        unsupported: Tags of optional keys that are not known, or not matched though they had a value.
    """

    query: WorklistQuery
    requested: tuple[RequestedKey, ...]
    unsupported: tuple[int, ...] = ()


def decode_identifier(data: bytes, *, explicit_vr: bool) -> Dataset:
    """Decode the identifier of a query; the server accepts little endian only. Odd bytes may raise anything."""
    data = _with_readable_terms(data, explicit_vr=explicit_vr)
    return read_dataset(BytesIO(data), not explicit_vr, is_little_endian=True)


def _with_readable_terms(data: bytes, *, explicit_vr: bool) -> bytes:
    """Replace NUL by space in the character set's terms: with a NUL in one of them, the library reads nothing."""
    start = _GROUP_LENGTH_BYTES if data.startswith(_GROUP_LENGTH) else 0
    if not data.startswith(_CHARACTER_SET, start):
        return data
    length = data[start + 6 : start + 8] if explicit_vr else data[start + 4 : start + 8]
    begin, end = start + 8, start + 8 + int.from_bytes(length, "little")
    return data[:begin] + data[begin:end].replace(b"\0", b" ") + data[end:]


def parse_query(identifier: Dataset) -> ParsedQuery:
    """Read a C-FIND identifier of the Modality Worklist SOP class.

    Raises:
        InvalidQuery: The identifier breaks the rules of matching; carries the offending element, not its
            value.

    Source: DICOM PS3.4 C.2.2.2 (attribute matching), K.4.1.1.3 (keys), K.4.1.3 (statuses).
    """
    reading = _Reading()
    requested = reading.read_level(identifier, path=())
    if not requested:
        raise InvalidQuery(reading.places[(), 0x00400100].tag, "the identifier asks for nothing")
    return ParsedQuery(query=reading.query(), requested=requested, unsupported=tuple(reading.unsupported))


@dataclass(slots=True)
class _Reading:
    """Collects keys and return keys while one identifier is read."""

    places: Mapping[tuple[tuple[str, ...], int], WorklistAttribute] = field(default_factory=attributes_by_place)
    equal: dict[str, tuple[str, ...]] = field(default_factory=dict)
    like: dict[str, str] = field(default_factory=dict)
    ranges: dict[str, Bounds] = field(default_factory=dict)
    unsupported: list[int] = field(default_factory=list)

    def query(self) -> WorklistQuery:
        ranges = dict(self.ranges)
        period = None
        if {"scheduled_start_date", "scheduled_start_time"} <= ranges.keys():
            period = combined_period(ranges.pop("scheduled_start_date"), ranges.pop("scheduled_start_time"))
        return WorklistQuery(equal=self.equal, like=self.like, ranges=ranges, period=period)

    def read_level(
        self, level: Dataset, *, path: tuple[str, ...], encodings: Sequence[str] | None = None
    ) -> tuple[RequestedKey, ...]:
        """Read the keys of the identifier or of an item.

        Args:
            level: Their data set.
            path: Keywords of the sequences around it.
            encodings: The codecs of the character set that is declared around it; None: none is.
        """
        encodings = settle_character_set(level, encodings)
        requested = []
        # keys() does not decode: an element that cannot be decoded is found out one by one.
        for tag in sorted(level.keys()):
            if tag in (SPECIFIC_CHARACTER_SET, TIMEZONE_OFFSET) or tag.element == 0 or tag.is_private:
                # Neither matched nor returned empty: they describe the response, or Pylantir does not use them.
                if tag.is_private:
                    self.unsupported.append(int(tag))
                continue
            attribute = self.places.get((path, int(tag)))
            if attribute is None:
                self.unsupported.append(int(tag))
                requested.append(RequestedKey(tag=int(tag), vr=vr_of_unknown(level, tag)))
            elif attribute.matching == "none" and attribute.vr != "SQ":
                # A key that selects nothing need not be readable.
                if not is_universal(level, tag):
                    self.unsupported.append(int(tag))
                requested.append(RequestedKey(tag=int(tag), vr=attribute.vr, attribute=attribute))
            else:
                element = read_element(level, tag)
                requested.append(self._read_key(element, attribute, path, encodings))
        return tuple(requested)

    def _read_key(
        self,
        element: DataElement,
        attribute: WorklistAttribute,
        path: tuple[str, ...],
        encodings: Sequence[str] | None,
    ) -> RequestedKey:
        tag = int(element.tag)
        is_sequence = element.VR == "SQ"
        if (attribute.vr == "SQ") != is_sequence:
            expected = "a sequence" if attribute.vr == "SQ" else f"a value of VR {attribute.vr}"
            raise InvalidQuery(tag, f"{attribute.keyword} must be {expected}")
        if is_sequence:
            return self._read_sequence(element, attribute, path, encodings)
        self._read_condition(element, attribute, is_declared=encodings is not None)
        return RequestedKey(tag=tag, vr=attribute.vr, attribute=attribute)

    def _read_sequence(
        self,
        element: DataElement,
        attribute: WorklistAttribute,
        path: tuple[str, ...],
        encodings: Sequence[str] | None,
    ) -> RequestedKey:
        tag = int(element.tag)
        items = element.value or ()
        if len(items) > 1:
            if attribute.keyword == SPS:
                raise InvalidQuery(tag, "a sequence in a query has one item at most")
            # The other items select nothing.
            self.unsupported.append(tag)
        inner_path = (*path, attribute.keyword)
        children = self.read_level(items[0], path=inner_path, encodings=encodings) if items else ()
        return RequestedKey(tag=tag, vr="SQ", attribute=attribute, children=children or self._everything_in(inner_path))

    def _everything_in(self, path: tuple[str, ...]) -> tuple[RequestedKey, ...]:
        """An empty sequence asks for all that is known of its item."""
        return tuple(
            RequestedKey(
                tag=attribute.tag,
                vr=attribute.vr,
                attribute=attribute,
                children=self._everything_in((*path, attribute.keyword)),
            )
            for (around, _), attribute in self.places.items()
            if around == path
        )

    def _read_condition(self, element: DataElement, attribute: WorklistAttribute, *, is_declared: bool) -> None:
        tag = attribute.tag
        values = texts_of(element, is_declared=is_declared)
        if not values:
            return
        name = attribute.fields[0]
        if attribute.matching == "uid":
            self.equal[name] = tuple(values)
        elif attribute.matching == "status":
            self.equal[name] = _stored_statuses(values)
        elif attribute.matching == "text" and not any(_has_wildcard(value) for value in values):
            self.equal[name] = tuple(values)
        elif attribute.matching in ("date", "time"):
            self._read_moments(values, attribute)
        elif len(values) > 1:
            raise InvalidQuery(tag, f"{attribute.keyword} must have one value")
        else:
            self.like[name] = values[0]

    def _read_moments(self, values: list[str], attribute: WorklistAttribute) -> None:
        """Read one value, a range, or a list of values; a `-` alone is a range that is open at both ends."""
        name = attribute.fields[0]
        is_date = attribute.matching == "date"
        if "-" in values:
            return
        try:
            if len(values) == 1 and "-" in values[0]:
                self.ranges[name] = date_bounds(values[0]) if is_date else time_bounds(values[0])
            elif is_date:
                self.equal[name] = tuple(map(single_date, values))
            else:
                self.equal[name] = tuple(time for value in values for time in single_times(value))
        except ValueError as error:
            raise InvalidQuery(attribute.tag, f"{attribute.keyword}: {error}") from None


def _has_wildcard(value: str) -> bool:
    return "*" in value or "?" in value


def _stored_statuses(values: list[str]) -> tuple[str, ...]:
    tests = [pattern_test("performed_procedure_step_status", value) for value in values]
    return tuple(stored for stored, wire in WIRE_STATUSES.items() if any(test(wire) for test in tests))
