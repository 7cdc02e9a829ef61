"""The fields of a REDCap project, as its metadata describe them.

Lives in the worker of a REDCap source. Pure: metadata in; forms, checkbox columns and choices out.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

EVENT, INSTRUMENT, INSTANCE = "redcap_event_name", "redcap_repeat_instrument", "redcap_repeat_instance"
GROUP = "redcap_data_access_group"
STRUCTURE = frozenset({EVENT, INSTRUMENT, INSTANCE, GROUP})
"""Columns that REDCap always sends; requesting them as fields is an error."""

VALIDATION = "text_validation_type_or_show_slider_number"

_BOX = "___"
_FIXED_CHOICES = {"yesno": {"1": "Yes", "0": "No"}, "truefalse": {"1": "True", "0": "False"}}
_TAG = re.compile(r"<[^<>]*>")


class RedcapProject:
    """The fields of a project, by name."""

    def __init__(self, metadata: Sequence[Mapping[str, Any]]) -> None:
        self._fields = {str(row["field_name"]): row for row in metadata}
        self.names = tuple(self._fields)
        self.forms = {str(row.get("form_name", "")) for row in metadata}

    def has(self, source: str) -> bool:
        """Tell whether REDCap can export a name: a field, one checkbox, a form's status, or one of REDCap's columns."""
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
        """Give the labels of a field by their codes; one checkbox has the code "1"."""
        base = self._base(source)
        if source != base and self.is_box(source):
            label = dict(self.boxes(base)).get(source)
            return {} if label is None else {"1": label}
        field = self._fields.get(source, {})
        kind = field.get("field_type")
        if kind in _FIXED_CHOICES:
            return dict(_FIXED_CHOICES[str(kind)])
        if kind in {"calc", "slider", "sql", "text"}:
            return {}
        return read_choices(str(field.get("select_choices_or_calculations") or ""))

    def has_time(self, source: str) -> bool:
        """Tell whether a field holds a date together with a time of day."""
        return str(self._fields.get(source, {}).get(VALIDATION) or "").startswith("datetime")

    def requestable(self, sources: Iterable[str]) -> tuple[str, ...]:
        """Return the names that the API accepts as `fields`: no single checkboxes, and none of REDCap's columns."""
        names = {source if self._is_completion(source) else self._base(source) for source in sources}
        return (self.names[0], *sorted(names - STRUCTURE - {self.names[0]}))

    def _is_completion(self, source: str) -> bool:
        return source.endswith("_complete") and source.removesuffix("_complete") in self.forms

    def _base(self, source: str) -> str:
        base = source.partition(_BOX)[0]
        return base if source not in self._fields and base in self._fields else source


def read_choices(text: str) -> dict[str, str]:
    """Read "1, Male | 2, Female" as labels by code, without the HTML that labels may hold."""
    pairs = (choice.partition(",") for choice in text.split("|"))
    return {code.strip(): plain_label(label) for code, comma, label in pairs if comma}


def plain_label(label: str) -> str:
    """Give a label as a reader sees it."""
    return " ".join(html.unescape(_TAG.sub(" ", label)).split())
