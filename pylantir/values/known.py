"""Caches the normalised values of one worklist field, because the records of a source have few different values.

Lives in source workers. In: columns of values as the source gave them. Out: their DICOM forms, and how many values
were left out or changed. An unusable value of a strict field raises; in every other field it becomes None.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from pylantir.errors import RecordRejected
from pylantir.values.moments import DATE_FIELD
from pylantir.values.normalise import SPREADSHEET_ERROR, STRICT_FIELDS, ValueRules, clean_check, normalise_value
from pylantir.values.text import Note

Warned = Counter[tuple[str, str]]
"""Number of values that were left out or changed, by field and reason."""

TIME_FIELD = "scheduled_start_time"
LOCAL_TIME_LENGTH = 6
"""A longer time of day ends with an offset."""
LOCAL_DATE_LENGTH = 8
"""A longer date ends with an offset."""
_LOCAL_LENGTHS = {TIME_FIELD: LOCAL_TIME_LENGTH, DATE_FIELD: LOCAL_DATE_LENGTH}
CACHED_VALUES = 2048
CACHED_CHARS = 1 << 20


class KnownValues(dict[str, "str | None"]):
    """Source value -> normalised value, for one field; when the cache is full, it is emptied.

    Attributes:
        field: The worklist field.
        remarks: Value -> the remarks to be counted each time the value occurs.
        has_offsets: There was a time of day with an offset, which needs its record's date, or the other way round.
        is_attribute: It is a `dicom:` target without a worklist field; such values are read together per record.
    """

    def __init__(self, field: str, rules: ValueRules, *, strict: bool = False, is_attribute: bool = False) -> None:
        """Prepare for one field; with `strict`, a value that would lose anything refuses its record."""
        super().__init__()
        self.field = field
        self.remarks: dict[str, tuple[str, ...]] = {}
        self.has_offsets = False
        self.is_attribute = is_attribute
        self._rules = rules
        self._strict = strict or field in STRICT_FIELDS
        self._refuses_lost = strict
        self._cached_chars = 0
        self._is_clean = clean_check(field)

    def normalise_all(self, values: Sequence[object], warned: Warned) -> Sequence[str | None]:
        """Normalise a column; fast, as most columns need no change or have few different values."""
        if set(map(type, values)) == {str}:
            different: set[str] = set(values)  # type: ignore[arg-type]
            if different.isdisjoint(self._rules.empty_values) and all(map(self._is_clean, different)):
                return values  # type: ignore[return-value]
            known: dict[str, str | None] = {}
            remarks: dict[object, tuple[str, ...]] = {}
            for text in different:
                known[text] = self[text]
                # Before the next value, which may fill the cache and so empty it.
                if text in self.remarks:
                    remarks[text] = self.remarks[text]
            if remarks:
                for given in values:
                    warned.update(self.told(remarks.get(given, ())))
            return list(map(known.__getitem__, values))  # type: ignore[arg-type]
        found: list[str | None] = []
        for value in values:
            if type(value) is str:
                found.append(self[value])
                warned.update(self.told(self.remarks.get(value, ())))
            else:
                found.append(self.normalise(value, warned))
        return found

    def __missing__(self, value: str) -> str | None:
        if self._is_clean(value) and value not in self._rules.empty_values:
            return value
        text, remarks = self._read(value)
        if len(self) >= CACHED_VALUES or self._cached_chars > CACHED_CHARS:
            self.forget()
        self._cached_chars += len(value)
        if remarks:
            self.remarks[value] = remarks
        self[value] = text
        return text

    def forget(self) -> None:
        """Empty the cache."""
        self.clear()
        self.remarks.clear()
        self._cached_chars = 0

    def normalise(self, value: object, warned: Warned) -> str | None:
        """Normalise a value that is not text."""
        text, remarks = self._read(value)
        warned.update(self.told(remarks))
        return text

    def told(self, remarks: Sequence[str]) -> list[tuple[str, str]]:
        """Return the pairs of field and remark to be counted for a value."""
        return [(self.field, remark) for remark in remarks]

    def _read(self, value: object) -> tuple[str | None, tuple[str, ...]]:
        note = Note()
        try:
            text = normalise_value(self.field, value, self._rules, note)
        except RecordRejected as error:
            is_nobody = self.field == "patient_name" and error.reason == SPREADSHEET_ERROR
            if self._strict or is_nobody:
                raise
            return None, (error.reason,)
        if note.lost and self._refuses_lost:
            raise RecordRejected(self.field, note.remarks[0])
        self.has_offsets |= len(text or "") > _LOCAL_LENGTHS.get(self.field, math.inf)
        return text, tuple(note.remarks)


class IgnoredValues(KnownValues):
    """Stands in for a name that is no worklist field, or for an attribute; every value becomes None."""

    def __missing__(self, value: str) -> str | None:
        return None

    def normalise(self, value: object, warned: Warned) -> str | None:
        """Return None for every value."""
        return None
