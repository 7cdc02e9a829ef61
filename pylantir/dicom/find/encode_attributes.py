"""Writing the attributes that only some records have: those that sources map by `dicom:` targets.

Lives in the server process. They are stored as one JSON text per item: path -> list of texts, or of objects for the
items of a sequence. A row's text comes in, an element goes out. Most rows have none, so each row is written by itself.

Source: DICOM PS3.4 table K.6-1; PS3.3 8.8 (coded entries: Code Value of at most 16 characters, else Long Code Value).
"""

from __future__ import annotations

import functools
import json
import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pylantir.dicom.text.charset import CharacterSet, Encoded, Loss
from pylantir.invisible import has_invisible, without_invisible
from pylantir.targets import TARGETS, Target

CHARACTER_SET_VRS = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
"""Value representations whose text is written in the Specific Character Set; all others are ASCII."""
_LONG_TEXTS = frozenset({"LT", "ST", "UT"})
_EXACT = frozenset(
    {"CodeValue", "LongCodeValue", "CodingSchemeDesignator", "CodingSchemeVersion", "OtherPatientIDs", "PatientID"}
    | {"IssuerOfPatientID", "PlacerOrderNumberImagingServiceRequest", "FillerOrderNumberImagingServiceRequest"}
    | {"ServiceEpisodeID", "MedicalRecordLocator", "ContainerIdentifier", "LocalNamespaceEntityID", "UniversalEntityID"}
)
"""Codes and identifiers: another spelling would be another code, so a value that does not fit is left out."""
_CODES = ("CodeValue", "LongCodeValue")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]+")
_CONTROLS_IN_LONG_TEXT = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f\ud800-\udfff]+")
_ITEM = struct.Struct("<HHI")


@dataclass(slots=True)
class Notes:
    """Records how the texts of the current rows were written.

    Attributes:
        losses: Row number -> the worst loss.
        foreign: Numbers of the rows that are not ASCII.
    """

    losses: dict[int, Loss] = field(default_factory=dict)
    foreign: set[int] = field(default_factory=set)

    def add(self, row: int, encoded: Encoded) -> None:
        """Note how one text of a row was written."""
        self.losses[row] = max(self.losses.get(row, Loss.NONE), encoded.loss)
        if not encoded.is_ascii:
            self.foreign.add(row)


@functools.lru_cache(maxsize=1024)
def stored_attributes(text: str | None) -> Mapping[str, Any]:
    """Read an item's further attributes; nothing where it has none."""
    try:
        value = json.loads(text) if text else {}
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def target_of(path: Sequence[str], keyword: str) -> Target | None:
    """The target that is kept among the further attributes under this path, if there is one."""
    target = TARGETS.get(".".join((*path, keyword)))
    return target if target is not None and target.worklist_field is None else None


def encode_text(text: str, vr: str, charset: CharacterSet | None, *, exactly: bool = False) -> Encoded | None:
    """Write one value; None where it has to be exact and the character set does not hold it.

    Args:
        text: As stored.
        vr: Its value representation.
        charset: The scanner's; None is UTF-8.
        exactly: It is a code or an identifier.
    """
    if exactly:
        held = text.isascii() or (vr in CHARACTER_SET_VRS and (charset is None or charset.holds(text)))
        if not held or not text.isprintable() or has_invisible(text):
            return None
        data = charset.encode_exactly(text) if charset and vr in CHARACTER_SET_VRS else text.encode()
        return Encoded(data=data, loss=Loss.NONE, is_ascii=text.isascii())
    text = (_CONTROLS_IN_LONG_TEXT if vr in _LONG_TEXTS else _CONTROLS).sub("", without_invisible(text))
    if vr not in CHARACTER_SET_VRS:
        return Encoded(data=text.encode("ascii", "replace"), loss=Loss.NONE, is_ascii=True)
    if charset is not None:
        return charset.encode(text, vr)
    return Encoded(data=text.encode(errors="replace"), loss=Loss.NONE, is_ascii=text.isascii())


class TextElement:
    """Writes one attribute with the texts that one row has."""

    def __init__(self, keyword: str, vr: str, starts: Mapping[int, bytes], charset: CharacterSet | None) -> None:
        self.keyword = keyword
        self._vr, self._starts, self._charset = vr, starts, charset
        self._padding = b"\0" if vr == "UI" else b" "

    def encode(self, texts: Iterable[str], row: int, notes: Notes) -> bytes:
        """Write the element; empty where nothing can be written."""
        written = []
        for text in texts:
            encoded = encode_text(text, self._vr, self._charset, exactly=self.keyword in _EXACT)
            if encoded is not None:
                notes.add(row, encoded)
                written.append(encoded.data)
        data = b"\\".join(written)
        data += self._padding * (len(data) & 1)
        return self._starts[len(data)] + data

    def holds(self, text: str) -> bool:
        """Whether a text can be written at all."""
        return encode_text(text, self._vr, self._charset, exactly=self.keyword in _EXACT) is not None


class ItemsElement:
    """Writes a sequence with the items that one row has; an item without what it requires is left out."""

    def __init__(self, parts: Sequence[TextElement], starts: Mapping[int, bytes], target: Target) -> None:
        self._parts, self._starts, self._target = parts, starts, target

    def encode(self, items: Iterable[Mapping[str, str]], row: int, notes: Notes) -> bytes:
        """Write the sequence, empty where no item is left."""
        whole = b""
        for item in items:
            if self._is_complete(item):
                body = b"".join(
                    part.encode([item[part.keyword]] if item.get(part.keyword) else [], row, notes)
                    for part in self._parts
                    if item.get(part.keyword) or not (self._target.kind == "code" and part.keyword in _CODES)
                )
                whole += _ITEM.pack(0xFFFE, 0xE000, len(body)) + body
        return self._starts[len(whole)] + whole

    def _is_complete(self, item: Mapping[str, str]) -> bool:
        asked = {part.keyword: part for part in self._parts}
        required = [name for name, part in self._target.parts.items() if part.required]
        if self._target.kind == "code" and asked.keys() & set(_CODES):
            # Without its value, which the scanner has not asked for, the item would not be a code.
            required += [name for name in _CODES if item.get(name) and name in asked] or ["no code"]
        return all(item.get(name) and (name not in asked or asked[name].holds(item[name])) for name in required)
