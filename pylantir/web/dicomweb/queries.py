"""Reading a search: the parameters of a URL become the identifier that a C-FIND would have.

Pure: (name, value) pairs in, a data set and the page of results out. What it matches is decided where C-FIND is.

Source: DICOM PS3.18 8.3.4 (query parameters), 14 (modality scheduled procedure steps); PS3.4 table K.6-1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pydicom.datadict import dictionary_has_tag, dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from pylantir.dicom.find.attributes import WORKLIST_ATTRIBUTES, WorklistAttribute
from pylantir.errors import BadRequest

MAX_PARAMETERS = 1000
MAX_VALUE_LENGTH = 10_000
MAX_NESTING = 8
FUZZY_REMARK = '299 pylantir: "The fuzzymatching parameter is not supported. Only literal matching has been performed."'
_ONCE = ("limit", "offset", "fuzzymatching")
_FIRST_GROUP = 0x0008
"""The groups before it belong to messages and files; no data set of a query has an attribute of them (PS3.5 7.1)."""
_MUST_BE_SENT = ("1", "1C", "2", "2C")


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What a search asks for.

    Attributes:
        identifier: Matching and return keys, as in a C-FIND.
        offset: Results to leave out at the beginning.
        limit: At most so many; None: all.
        is_fuzzy: Fuzzy matching was asked for.
    """

    identifier: Dataset
    offset: int = 0
    limit: int | None = None
    is_fuzzy: bool = False


def read_search(parameters: Sequence[tuple[str, str]]) -> Search:
    """Read the parameters of a search for scheduled procedure steps.

    Args:
        parameters: (name, value), decoded, in their order.

    Raises:
        BadRequest: An attribute that no dictionary knows, a value that cannot be one, a bad `limit`, `offset` or
            `fuzzymatching`.
    """
    if len(parameters) > MAX_PARAMETERS:
        raise BadRequest(f"more than {MAX_PARAMETERS} parameters")
    identifier = Dataset()
    offset, limit, is_fuzzy = 0, None, False
    included: list[str] = []
    given: set[str | tuple[int, ...]] = set()
    for name, value in parameters:
        if len(value) > MAX_VALUE_LENGTH:
            raise BadRequest(f"{name[:64]}: longer than {MAX_VALUE_LENGTH} characters")
        if name == "includefield":
            included += [field.strip() for field in value.split(",") if field.strip()]
            continue
        key = name if name in _ONCE else _read_path(name)
        if key in given:
            raise BadRequest(f"{name}: given twice")
        given.add(key)
        if name == "limit":
            limit = _whole_number(name, value)
        elif name == "offset":
            offset = _whole_number(name, value)
        elif name == "fuzzymatching":
            if value not in {"true", "false"}:
                raise BadRequest("fuzzymatching: expected true or false")
            is_fuzzy = value == "true"
        elif isinstance(key, tuple):
            _set(identifier, key, value)
    _include(identifier, included)
    return Search(identifier=identifier, offset=offset, limit=limit, is_fuzzy=is_fuzzy)


def _whole_number(name: str, value: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", value):
        raise BadRequest(f"{name}: expected a whole number")
    return int(value)


def _read_path(name: str) -> tuple[int, ...]:
    """The tags of `Keyword`, `GGGGEEEE`, or of several joined by dots, all but the last sequences."""
    parts = name.split(".")
    if len(parts) > MAX_NESTING:
        raise BadRequest(f"nested deeper than {MAX_NESTING} levels")
    path = []
    for part in parts:
        tag = int(part, 16) if re.fullmatch(r"[0-9A-Fa-f]{8}", part) else tag_for_keyword(part)
        if not part or tag is None or tag >> 16 < _FIRST_GROUP or not dictionary_has_tag(tag):
            raise BadRequest(f"{part[:64]}: no attribute of the DICOM dictionary, and no parameter")
        path.append(tag)
    if any(dictionary_VR(tag) != "SQ" for tag in path[:-1]):
        raise BadRequest(f"{name[:200]}: what stands before a dot has to be a sequence")
    return tuple(path)


def _level(identifier: Dataset, path: Iterable[int]) -> Dataset:
    """The data set in which the last attribute of a path stands; sequences on the way get their one item."""
    level = identifier
    for tag in path:
        if tag not in level or not level[tag].value:
            level.add(DataElement(tag, "SQ", [Dataset()]))
        level = level[tag].value[0]
    return level


def _set(identifier: Dataset, path: tuple[int, ...], value: str) -> None:
    level, tag = _level(identifier, path[:-1]), path[-1]
    vr = dictionary_VR(tag)
    if vr == "SQ":
        if value:
            raise BadRequest(f"{tag:08X} is a sequence: name the attribute in it, joined by a dot")
        _level(identifier, path)
        return
    # Lists of UIDs are written with commas in URLs.
    text = value.replace(",", "\\") if vr == "UI" else value
    try:
        level.add(DataElement(tag, vr[:2], text or None))
        level[tag].value  # noqa: B018 - numbers are read here
    except Exception:  # noqa: BLE001 - pydicom reads here, and a stranger's text raises anything
        raise BadRequest(f"{tag:08X}: not a value of VR {vr}") from None


def _include(identifier: Dataset, included: Sequence[str]) -> None:
    """Add what is to come back besides the matching keys."""
    wants_all = "all" in included
    for attribute in WORKLIST_ATTRIBUTES:
        if wants_all or _is_sent_unasked(attribute):
            _ask_for(identifier, (*(_tag(keyword) for keyword in attribute.path), attribute.tag))
    for name in included:
        if name != "all":
            path = _read_path(name)
            _ask_for(identifier, path)
            for attribute in WORKLIST_ATTRIBUTES:
                around = tuple(_tag(keyword) for keyword in attribute.path)
                if around[: len(path)] == path:
                    _ask_for(identifier, (*around, attribute.tag))


def _is_sent_unasked(attribute: WorklistAttribute) -> bool:
    return attribute.return_type in _MUST_BE_SENT


def _ask_for(identifier: Dataset, path: tuple[int, ...]) -> None:
    level, tag = _level(identifier, path[:-1]), path[-1]
    if tag in level:
        return
    vr = dictionary_VR(tag)
    level.add(DataElement(tag, "SQ", [Dataset()]) if vr == "SQ" else DataElement(tag, vr[:2], None))


def _tag(keyword: str) -> int:
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise KeyError(keyword)
    return tag
