"""Reading a worklist query: what does this C-FIND identifier select, and what does it want back?

Lives in the server process. A decoded identifier comes in, a `ParsedQuery` goes out. An identifier is a
stranger's
data: whatever is in it, the answer is a query or `InvalidQuery`. Nothing here knows a database or an
association.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag

from pylantir.dicom.find.attributes import WIRE_STATUSES, WorklistAttribute, attributes_by_place
from pylantir.dicom.find.datetimes import (
    Bounds,
    combined_period,
    date_bounds,
    single_date,
    single_times,
    time_bounds,
)
from pylantir.errors import InvalidQuery
from pylantir.query import WorklistQuery, pattern_test

MAX_NESTING = 64
MAX_VALUES = 1000
MAX_VALUE_LENGTH = 1024
SPECIFIC_CHARACTER_SET = 0x00080005
TIMEZONE_OFFSET = 0x00080201


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


def parse_query(identifier: Dataset) -> ParsedQuery:
    """Read a C-FIND identifier of the Modality Worklist SOP class.

    Raises:
        InvalidQuery: The identifier breaks the rules of matching; carries the offending element, not its
            value.

    Source: DICOM PS3.4 C.2.2.2 (attribute matching), K.4.1.1.3 (keys), K.4.1.3 (statuses).
    """
    reading = _Reading()
    requested = reading.read_level(identifier, path=(), depth=1)
    if not requested:
        raise InvalidQuery(reading.places[(), 0x00400100].tag, "the identifier asks for nothing")
    return ParsedQuery(query=reading.query(), requested=requested, unsupported=tuple(reading.unsupported))


@dataclass(slots=True)
class _Reading:
    """What has been gathered so far of one identifier."""

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

    def read_level(self, level: Dataset, *, path: tuple[str, ...], depth: int) -> tuple[RequestedKey, ...]:
        requested = []
        # keys() does not decode: an element that cannot be decoded is found out one by one.
        for tag in sorted(level.keys()):
            if tag in (SPECIFIC_CHARACTER_SET, TIMEZONE_OFFSET) or tag.element == 0 or tag.is_private:
                # Neither matched nor returned empty: they say something about the response, or nothing to us.
                if tag.is_private:
                    self.unsupported.append(int(tag))
                continue
            requested.append(self._read_key(_element(level, tag), path=path, depth=depth))
        return tuple(requested)

    def _read_key(self, element: DataElement, *, path: tuple[str, ...], depth: int) -> RequestedKey:
        tag = int(element.tag)
        attribute = self.places.get((path, tag))
        is_sequence = element.VR == "SQ"
        if attribute is not None and (attribute.vr == "SQ") != is_sequence:
            expected = "a sequence" if attribute.vr == "SQ" else f"a value of VR {attribute.vr}"
            raise InvalidQuery(tag, f"{attribute.keyword} must be {expected}")
        if is_sequence:
            return self._read_sequence(element, attribute, path=path, depth=depth)
        if attribute is None:
            self.unsupported.append(tag)
            # "US or SS" and the like: what an attribute without a value is written as does not matter.
            return RequestedKey(tag=tag, vr=element.VR[:2])
        self._read_condition(element, attribute)
        return RequestedKey(tag=tag, vr=attribute.vr, attribute=attribute)

    def _read_sequence(
        self, element: DataElement, attribute: WorklistAttribute | None, *, path: tuple[str, ...], depth: int
    ) -> RequestedKey:
        tag = int(element.tag)
        if depth > MAX_NESTING:
            raise InvalidQuery(tag, f"nested deeper than {MAX_NESTING} levels")
        items = element.value or ()
        if len(items) > 1:
            raise InvalidQuery(tag, "a sequence in a query has one item at most")
        if attribute is None:
            self.unsupported.append(tag)
        inner_path = (*path, attribute.keyword if attribute else "")
        children = self.read_level(items[0], path=inner_path, depth=depth + 1) if items else ()
        if attribute is None:
            return RequestedKey(tag=tag, vr="SQ")
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

    def _read_condition(self, element: DataElement, attribute: WorklistAttribute) -> None:
        tag = attribute.tag
        values = _texts(element)
        if not values:
            return
        if attribute.matching == "none":
            self.unsupported.append(tag)
            return
        name = attribute.fields[0]
        if attribute.matching == "uid":
            self.equal[name] = tuple(values)
        elif attribute.matching == "status":
            self.equal[name] = _stored_statuses(values)
        elif attribute.matching == "text" and not any(_has_wildcard(value) for value in values):
            self.equal[name] = tuple(values)
        elif len(values) > 1:
            raise InvalidQuery(tag, f"{attribute.keyword} must have one value")
        elif attribute.matching in ("date", "time"):
            self._read_moment(values[0], attribute)
        else:
            self.like[name] = values[0]

    def _read_moment(self, value: str, attribute: WorklistAttribute) -> None:
        name = attribute.fields[0]
        is_date = attribute.matching == "date"
        try:
            if "-" in value:
                self.ranges[name] = date_bounds(value) if is_date else time_bounds(value)
            else:
                self.equal[name] = (single_date(value),) if is_date else single_times(value)
        except ValueError as error:
            raise InvalidQuery(attribute.tag, f"{attribute.keyword}: {error}") from None


def _element(level: Dataset, tag: BaseTag) -> DataElement:
    try:
        raw = level.get_item(tag)
        whole = not (isinstance(raw, RawDataElement) and raw.value is not None and len(raw.value) != raw.length)
        element = level[tag]
    except Exception as error:  # noqa: BLE001 - pydicom decodes here, and a stranger's bytes raise anything
        raise InvalidQuery(int(tag), f"the element cannot be decoded ({type(error).__name__})") from None
    if not whole:
        # pydicom takes what there is: half a patient ID may be somebody else's.
        raise InvalidQuery(int(tag), "the element is cut short")
    return element


def _texts(element: DataElement) -> list[str]:
    """The values of a key as text, without padding; none for a universal key (no value, or `*` alone).

    Raises:
        InvalidQuery: A value is no text, far too long, or holds control characters.
    """
    tag = int(element.tag)
    several = element.value if isinstance(element.value, MultiValue | list) else [element.value]
    if len(several) > MAX_VALUES:
        raise InvalidQuery(tag, f"more than {MAX_VALUES} values")
    values = []
    for one in several:
        if isinstance(one, bytes):
            raise InvalidQuery(tag, "the value is no text")
        try:
            text = "" if one is None else str(one)
            text.encode()
        except (UnicodeError, LookupError):
            raise InvalidQuery(tag, "the value does not fit its character set") from None
        text = text.strip(" \0")
        if element.VR == "PN":
            text = _tidy_name(text)
        if len(text) > MAX_VALUE_LENGTH or any(character < " " or character == "\x7f" for character in text):
            raise InvalidQuery(tag, "the value is too long, or holds control characters")
        if text.strip("*") or not text:
            values.append(text)
        else:
            return []
    return [text for text in values if text]


def _tidy_name(text: str) -> str:
    """Drop insignificant spaces from each component, and empty components and groups from the end."""
    groups = ("^".join(part.strip() for part in group.split("^")).rstrip("^") for group in text.split("="))
    return "=".join(groups).rstrip("=")


def _has_wildcard(value: str) -> bool:
    return "*" in value or "?" in value


def _stored_statuses(values: list[str]) -> tuple[str, ...]:
    tests = [pattern_test("performed_procedure_step_status", value) for value in values]
    return tuple(stored for stored, wire in WIRE_STATUSES.items() if any(test(wire) for test in tests))
