"""What the records of a batch say, column by column: thousands of records are looked at with a few calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Contents = Sequence["str | None"]
"""What one record says: a value, or None, per field of its batch."""


@dataclass(frozen=True, slots=True)
class RecordColumns:
    """Records of one source.

    Attributes:
        keys: Their keys.
        values: Worklist field -> a value, or None, per record; fields that none of them has may be missing.
    """

    keys: Sequence[str]
    values: Mapping[str, Sequence[str | None]]

    @classmethod
    def of(cls, names: Sequence[str], records: Sequence[Sequence[str | None]]) -> RecordColumns:
        """Turn records, each its key and a value per name, into columns."""
        if not records:
            return cls((), {})
        keys, *columns = zip(*records, strict=True)
        return cls(keys, dict(zip(names, columns, strict=True)))

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def patients(self) -> Sequence[str]:
        """The patient ID of each record."""
        return self.values["patient_id"]  # type: ignore[return-value]  # checked on arrival

    def pick(self, places: Sequence[int]) -> RecordColumns:
        """Some of the records."""
        if len(places) == len(self.keys):
            return self
        return RecordColumns(
            [self.keys[place] for place in places],
            {name: [column[place] for place in places] for name, column in self.values.items()},
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The fields, in the order of their columns."""
        return tuple(self.values)

    def fields(self) -> dict[str, dict[str, str]]:
        """Record key -> what it says, by name."""
        return {
            key: {name: value for name, value in zip(self.values, said, strict=True) if value}
            for key, *said in zip(self.keys, *self.values.values(), strict=True)
        }
