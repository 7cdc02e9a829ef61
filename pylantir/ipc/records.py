"""Keeps records as columns, so that a few calls check, send or compare a field of hundreds of records.

In a frame a column is one string, its values with a separator between them; a JSON list would cost far more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import NoneType

from pylantir.errors import ProtocolError

Column = Sequence["str | None"]
"""A value, or None, per record."""

_SEPARATOR = "\x7f"
"""JSON does not escape it, and no DICOM value contains it."""


@dataclass(frozen=True, slots=True)
class RecordColumns:
    """Records of one source.

    Attributes:
        keys: The records' keys.
        values: Worklist field -> a value, or None, per record; fields that none of them has may be missing.
    """

    keys: Sequence[str]
    values: Mapping[str, Column]

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def patients(self) -> Sequence[str]:
        """The patient ID of each record."""
        return self.values["patient_id"]  # type: ignore[return-value]  # required of every record

    @property
    def names(self) -> tuple[str, ...]:
        """The fields, in the order of their columns."""
        return tuple(self.values)

    def pick(self, places: Sequence[int]) -> RecordColumns:
        """Return the records at these positions."""
        if len(places) == len(self.keys):
            return self
        return RecordColumns(
            [self.keys[place] for place in places],
            {name: [column[place] for place in places] for name, column in self.values.items()},
        )

    def fields(self) -> dict[str, dict[str, str]]:
        """Return record key -> its values by field name."""
        return {
            key: {name: value for name, value in zip(self.values, said, strict=True) if value}
            for key, *said in zip(self.keys, *self.values.values(), strict=True)
        }


NO_RECORDS = RecordColumns((), {})


def join_columns(parts: Sequence[RecordColumns]) -> RecordColumns:
    """Join records of several layouts."""
    if len(parts) == 1:
        return parts[0]
    values: dict[str, Column] = {}
    for name in dict.fromkeys(name for part in parts for name in part.values):
        values[name] = [value for part in parts for value in part.values.get(name) or (None,) * len(part)]
    return RecordColumns([key for part in parts for key in part.keys], values)


def pack_columns(records: RecordColumns) -> dict[str, object]:
    """Write records for a frame: `keys`, and `values` by worklist field; fields without any value are left out."""
    return {
        "keys": _pack(records.keys),
        "values": {name: _pack(column) for name, column in records.values.items() if any(column)},
    }


def unpack_columns(keys: object, values: object) -> RecordColumns:
    """Read what `pack_columns` wrote.

    Raises:
        ProtocolError: The value has another form, or a record has no key.
    """
    count = keys.count(_SEPARATOR) + 1 if isinstance(keys, str) else len(keys) if isinstance(keys, list) else 0
    own_keys = _unpack(keys, count)
    if not isinstance(values, dict) or not all(own_keys):
        raise ProtocolError("malformed records")
    return RecordColumns(own_keys, {name: _unpack(column, count) for name, column in values.items()})  # type: ignore[arg-type]


def _pack(column: Column) -> str | list[str | None]:
    try:
        text = _SEPARATOR.join(column)  # type: ignore[arg-type]  # that is what is found out here
    except TypeError:
        text = _SEPARATOR.join([value or "" for value in column])
    return text if text.count(_SEPARATOR) == len(column) - 1 else list(column)


def _unpack(packed: object, count: int) -> Column:
    column: Column
    if isinstance(packed, str) and packed.count(_SEPARATOR) == count - 1:
        column = packed.split(_SEPARATOR)
    elif isinstance(packed, list) and len(packed) == count and set(map(type, packed)) <= {str, NoneType}:
        column = packed
    else:
        raise ProtocolError("malformed records")
    return column if all(column) else [value or None for value in column]
