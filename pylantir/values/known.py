"""The normalised values of one worklist field, remembered: the records of a source have few different ones.

Lives in source workers. In: columns of values as the source gave them; out: their DICOM forms, and what was left out or
changed, counted. A strict field raises for a value that it cannot use; every other field has none there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from pylantir.errors import RecordRejected
from pylantir.values.normalise import SPREADSHEET_ERROR, STRICT_FIELDS, ValueRules, clean_check, normalise_value
from pylantir.values.text import Note

Warned = Counter[tuple[str, str]]
"""How often a value of a field was left out or changed, by field and reason."""

TIME_FIELD = "scheduled_start_time"
LOCAL_TIME_LENGTH = 6
"""A longer time of day has an offset behind it."""
CACHED_VALUES = 2048


class KnownValues(dict[str, "str | None"]):
    """The normalised values of one field, by what the source gave; forgets all of them when it is full.

    Attributes:
        field: The worklist field.
        remarks: What is to be told about some of the values, each time.
        has_offsets: There was a time of day with an offset, which needs its record's date.
        is_attribute: It is a `dicom:` target without a worklist field, whose values are read all together.
    """

    def __init__(self, field: str, rules: ValueRules, *, strict: bool = False, is_attribute: bool = False) -> None:
        """Prepare for one field; `strict` refuses the record for every value of which something is lost."""
        super().__init__()
        self.field = field
        self.remarks: dict[str, tuple[str, ...]] = {}
        self.has_offsets = False
        self.is_attribute = is_attribute
        self._rules = rules
        self._strict = strict or field in STRICT_FIELDS
        self._refuses_lost = strict
        self._is_clean = clean_check(field)

    def normalise_all(self, values: Sequence[object], warned: Warned) -> Sequence[str | None]:
        """Normalise a column; most columns are clean, or have few different values."""
        if set(map(type, values)) == {str}:
            different: set[str] = set(values)  # type: ignore[arg-type]
            if different.isdisjoint(self._rules.empty_values) and all(map(self._is_clean, different)):
                return values  # type: ignore[return-value]
            known: dict[str, str | None] = {}
            remarks: dict[object, tuple[str, ...]] = {}
            for text in different:
                known[text] = self[text]
                # At once: the next value may be one too many, and let all be forgotten.
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
        if len(self) >= CACHED_VALUES:
            self.clear()
            self.remarks.clear()
        if remarks:
            self.remarks[value] = remarks
        self[value] = text
        return text

    def normalise(self, value: object, warned: Warned) -> str | None:
        """Normalise a value that is no text."""
        text, remarks = self._read(value)
        warned.update(self.told(remarks))
        return text

    def told(self, remarks: Sequence[str]) -> list[tuple[str, str]]:
        """What is to be counted for a value."""
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
        self.has_offsets |= self.field == TIME_FIELD and len(text or "") > LOCAL_TIME_LENGTH
        return text, tuple(note.remarks)


class IgnoredValues(KnownValues):
    """The values of a name that is no worklist field, or of an attribute."""

    def __missing__(self, value: str) -> str | None:
        return None

    def normalise(self, value: object, warned: Warned) -> str | None:
        """Give nothing."""
        return None
