"""The fields of a REDCap project, as its metadata describe them.

Lives in the worker of a REDCap source. Pure: metadata in; forms, checkbox columns and choices out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

EVENT, INSTRUMENT, INSTANCE = "redcap_event_name", "redcap_repeat_instrument", "redcap_repeat_instance"
GROUP = "redcap_data_access_group"
STRUCTURE = frozenset({EVENT, INSTRUMENT, INSTANCE, GROUP})
"""Columns that come by themselves; asking for them as fields is an error."""

_BOX = "___"


class RedcapProject:
    """The fields of a project, by name."""

    def __init__(self, metadata: Sequence[Mapping[str, Any]]) -> None:
        self._fields = {str(row["field_name"]): row for row in metadata}
        self.names = tuple(self._fields)
        self.forms = {str(row.get("form_name", "")) for row in metadata}

    def has(self, source: str) -> bool:
        """Tell whether REDCap can export this: a field, a checkbox of it, a form's status, a column of REDCap's own."""
        return source in STRUCTURE or self._base(source) in self._fields or self._is_completion(source)

    def form(self, source: str) -> str:
        """Name the form that holds a field, or ""."""
        if self._is_completion(source):
            return source.removesuffix("_complete")
        base = self._base(source)
        # The record ID is on the first form, but in every row.
        return "" if base == self.names[0] else str(self._fields.get(base, {}).get("form_name", ""))

    def is_box(self, source: str) -> bool:
        """Tell whether a field is a checkbox field, or one checkbox of it."""
        return self._fields.get(self._base(source), {}).get("field_type") == "checkbox"

    def boxes(self, source: str) -> tuple[tuple[str, str], ...]:
        """Name the columns of a checkbox field; one alone, if `source` is a column, with the value "1"."""
        if source not in self._fields:
            return ((source, "1"),)
        codes = self.choices(source)
        return tuple((source + _BOX + code.lower().replace("-", "_"), label) for code, label in codes.items())

    def choices(self, source: str) -> dict[str, str]:
        """Give the labels of a field by their codes."""
        text = str(self._fields.get(source, {}).get("select_choices_or_calculations") or "")
        pairs = (choice.partition(",") for choice in text.split("|"))
        return {code.strip(): label.strip() for code, comma, label in pairs if comma}

    def requestable(self, sources: Iterable[str]) -> tuple[str, ...]:
        """Name what the API accepts as `fields`: no single checkboxes, and none of its own columns."""
        names = {source if self._is_completion(source) else self._base(source) for source in sources}
        return (self.names[0], *sorted(names - STRUCTURE - {self.names[0]}))

    def _is_completion(self, source: str) -> bool:
        return source.endswith("_complete") and source.removesuffix("_complete") in self.forms

    def _base(self, source: str) -> str:
        base = source.partition(_BOX)[0]
        return base if source not in self._fields and base in self._fields else source
