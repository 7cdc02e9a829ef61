"""Writing worklist responses: rows of the worklist straight to the bytes of what a query asked for.

Lives in the server process. A `ParsedQuery` is compiled once into a `ResponseEncoder`; batches of rows come in, encoded
identifiers go out. They hold every attribute that the query asked for, empty where unknown, and no other.

Source: DICOM PS3.4 table K.6-1 (return key types), C.2.2.2 (what a response holds); PS3.3 C.12.1.1.2 (Specific
Character Set).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pylantir.dicom.find.elements import SPECIFIC_CHARACTER_SET
from pylantir.dicom.find.encode_attributes import Notes
from pylantir.dicom.find.encode_elements import Level
from pylantir.dicom.find.encode_values import UNKNOWN, Columns, Starts, Value, Writing, is_full
from pylantir.dicom.find.matching import ParsedQuery
from pylantir.dicom.text.charset import Loss
from pylantir.dicom.text.identifiers import IdentifierCheck

UTF_8 = "ISO_IR 192"

Row = Sequence[object]
"""The values of `ResponseEncoder.fields`, as stored."""


@dataclass(slots=True, kw_only=True)
class EncodedBatch:
    """What became of some rows.

    Attributes:
        identifiers: Of the responses, in the order of the rows.
        left_out: (item id, field) of items that lack a value without which scanners reject the whole answer.
        unfit: (item id, field) of items with an identifier that cannot be written exactly.
        losses: How far text was changed to fit the character set -> ids of the items.
    """

    identifiers: list[bytes] = field(default_factory=list)
    left_out: list[tuple[object, str]] = field(default_factory=list)
    unfit: list[tuple[object, str]] = field(default_factory=list)
    losses: dict[Loss, list[object]] = field(default_factory=dict)

    def items_of(self, rows: Sequence[Row]) -> list[Any]:
        """List the item ids of the rows that have a response, in order."""
        ids: list[Any] = [row[0] for row in rows]
        kept_back = {item_id for item_id, _ in (*self.left_out, *self.unfit)}
        return [item_id for item_id in ids if item_id not in kept_back] if kept_back else ids


class ResponseEncoder:
    """Writes the responses to one query."""

    def __init__(self, parsed: ParsedQuery, writing: Writing) -> None:
        """Compile what the query asks for.

        Args:
            parsed: What was asked for.
            writing: How to write it.
        """
        keys = parsed.requested
        first = [key for key in keys if key.tag < SPECIFIC_CHARACTER_SET]
        # Nothing that the worklist knows sorts before Specific Character Set.
        self._head = b"".join(Starts(key.tag, key.vr, writing)[0] for key in first)
        self._notes = Notes()
        self._level = Level(keys[len(first) :], writing, self._notes)
        declared = "\\".join(writing.charset.terms if writing.charset else (UTF_8,)).encode()
        declared += b" " * (len(declared) % 2)
        self._declaration = Starts(SPECIFIC_CHARACTER_SET, "CS", writing)[len(declared)] + declared
        self._required = [one for one in self._level.values if one.is_required]
        # `EncodedBatch.items_of` relies on the first one.
        self.fields = tuple(dict.fromkeys(["id", *self._level.fields]))
        self._identifiers = IdentifierCheck(self.fields, writing.charset)

    def encode(self, rows: Sequence[Row]) -> EncodedBatch:
        """Write the responses for some rows, each of which holds the values of `fields`."""
        if not rows:
            return EncodedBatch()
        columns: Columns = dict(zip(self.fields, zip(*rows, strict=True), strict=True))
        lacking, unfit = self._lacking(columns), self._identifiers.unfit_rows(columns)
        if lacking or unfit:
            batch = self.encode([row for number, row in enumerate(rows) if number not in lacking | unfit])
            batch.left_out = [(columns["id"][number], name) for number, name in sorted(lacking.items())]
            batch.unfit = [(columns["id"][number], name) for number, name in sorted(unfit.items())]
            return batch
        self._notes.losses.clear()
        self._notes.foreign.clear()
        bodies = self._level.encode(columns, len(rows))
        foreign = [value for value in self._level.values if value.foreign]
        if not foreign and not self._notes.losses:
            return EncodedBatch(identifiers=[self._head + body for body in bodies] if self._head else bodies)
        return self._declared(bodies, columns, foreign)

    def _lacking(self, columns: Columns) -> dict[int, str]:
        """Row number -> the first required field that the row lacks."""
        lacking: dict[int, str] = {}
        for required in self._required:
            if not any(is_full(columns[name]) for name in required.fields):
                for number, value in enumerate(required.choose(columns)):
                    if value in UNKNOWN:
                        lacking.setdefault(number, required.fields[0])
        return lacking

    def _declared(self, bodies: list[bytes], columns: Columns, foreign: Iterable[Value]) -> EncodedBatch:
        """Declare the character set in the responses that need it."""
        declarations = [self._declaration if row in self._notes.foreign else b"" for row in range(len(bodies))]
        worst = [self._notes.losses.get(row, Loss.NONE) for row in range(len(bodies))]
        for one in foreign:
            for number, value in enumerate(one.chosen(columns)):
                encoded = one.foreign.get(value)
                if encoded is not None:
                    worst[number] = max(worst[number], encoded.loss)
                    if not encoded.is_ascii:
                        declarations[number] = self._declaration
        batch = EncodedBatch()
        batch.identifiers = [
            self._head + declaration + body for declaration, body in zip(declarations, bodies, strict=True)
        ]
        for item_id, loss in zip(columns["id"], worst, strict=True):
            if loss is not Loss.NONE:
                batch.losses.setdefault(loss, []).append(item_id)
        return batch


def encode_item(row: Mapping[str, object], parsed: ParsedQuery, writing: Writing) -> EncodedBatch:
    """Write the response for one item, to see whether and how it is sent."""
    encoder = ResponseEncoder(parsed, writing)
    return encoder.encode([[row.get(name) for name in encoder.fields]])
