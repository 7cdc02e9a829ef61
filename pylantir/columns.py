"""Applies `field_mapping` in all its forms: turns the columns of a source's record into values by worklist field.

Pure except for the clock that ends a search; used by plugins through `DataSourcePlugin.map_record`, and by the
configuration check. The steps have the order of the reference: a column's wrapping and its words for "no value", then
joining, extraction, and the table of values. The host does the last step, the format (`field_formats`); it also knows
ISO and DICOM forms.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pylantir.errors import RecordRejected, SourceUnavailable
from pylantir.settings import EMPTY_VALUES
from pylantir.targets import find_target
from pylantir.values.patience import LONGEST_SEARCH_S, search
from pylantir.values.text import as_text, is_nothing, is_spreadsheet_error, unwrap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LACKING = "_lacking"
"""Reserved key of an entry: a field of `where` that its record lacks, and the fields that the record has."""
_MOST_WITHOUT = 10_000
"""If so many records in a row lack a field of `where`, no record has it."""
LEFT_OUT = "_left_out"
"""Reserved key of an entry that `where` leaves out; the host skips the entry. Its value is the first column of `where`
that the record lacks, or ""."""

SOURCE_VALUES = "_source_values"
"""Reserved key of an entry, for `pylantir preview`: worklist field -> what the record has, where more is done to it."""

LONGEST_SEARCHED = 1000
"""How many characters of a value `extract` searches: with some expressions the time grows fast with the text."""

_NAMES = frozenset({"patient_name", "referring_physician_name", "performing_physician", "requesting_physician"})
_MISSING = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldRule:
    """How one worklist field is made.

    Attributes:
        target: The worklist field, or a `dicom:` target.
        columns: Source fields, in this order; dotted paths reach into nested records.
        join: The text between the values of several columns.
        extract: The expression to search for in the joined text.
        group: The group of the expression to take; 0 is the whole match.
        values: Text -> other text, or None for no value; "*" is any other text.
        formats: How dates and times are written.
        empty: Words that mean "no value" in these columns.
        labels: Coded answers are replaced by their labels.
        alternatives: The columns are not joined: the first that is not empty counts.
    """

    target: str
    columns: tuple[str, ...]
    join: str = " "
    extract: re.Pattern[str] | None = None
    group: int = 0
    values: Mapping[str, str | None] | None = None
    formats: tuple[str, ...] = ()
    empty: frozenset[str] = frozenset()
    labels: bool = False
    alternatives: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether the rule passes on the value of a single column unchanged."""
        return len(self.columns) == 1 and self.extract is None and self.values is None and not self.empty


def read_field_mapping(field_mapping: Mapping[str, Any]) -> tuple[FieldRule, ...]:
    """Turn a checked `field_mapping` into one rule per worklist field.

    Args:
        field_mapping: Source field -> worklist field or list of them, and worklist field -> object, mixed.
    """
    rules: dict[str, FieldRule] = {}
    for name, said in field_mapping.items():
        if isinstance(said, Mapping):
            rules[name] = _read_object(name, said)
            continue
        for target in (said,) if isinstance(said, str) else said:
            known = rules.get(target)
            columns = (*known.columns, name) if known else (name,)
            rules[target] = FieldRule(target=target, columns=columns, alternatives=len(columns) > 1)
    return tuple(rules.values())


def field_formats(field_mapping: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return the worklist fields that have formats of their own, and these formats."""
    return {rule.target: rule.formats for rule in read_field_mapping(field_mapping) if rule.formats}


def source_names(field_mapping: Mapping[str, Any]) -> dict[str, str]:
    """Return, for messages, the source fields of each worklist field."""
    rules = read_field_mapping(field_mapping)
    return {rule.target: (" or " if rule.alternatives else " + ").join(rule.columns) for rule in rules}


def without_left_out(entries: Iterable[object]) -> Iterator[object]:
    """Skip the records that `where` leaves out.

    Records that lack a field of `where` are held back until another record has it.

    Raises:
        SourceUnavailable: `where` names a field that no record has; this must neither show nor cancel any item.
    """
    held: list[object] = []
    lacking: tuple[str, tuple[str, ...]] | None = None
    others = False
    for entry in entries:
        missed = entry.get(LACKING) if isinstance(entry, Mapping) else None
        if missed is None:
            others = True
            yield from held
            held.clear()
        lacking = missed or lacking
        if isinstance(entry, Mapping) and LEFT_OUT in entry:
            continue
        if others or missed is None:
            yield entry
        else:
            held.append(entry)
            if len(held) > _MOST_WITHOUT:
                break
    if lacking and not others:
        raise SourceUnavailable(_no_such_field(*lacking))
    yield from held


def _no_such_field(column: str, fields: Sequence[str]) -> str:
    from difflib import get_close_matches

    near = next(iter(get_close_matches(column, fields, 1)), None)
    advice = f'did you mean "{near}"?' if near else "is it called otherwise now?"
    return f'where: no record has the field "{column}": {advice}'


def target_of(name: str) -> str:
    """Return the worklist field for a `dicom:` target that is another name for one; return other targets unchanged."""
    known = find_target(name) if name.startswith("dicom:") else None
    return known[0].worklist_field or name if known and known[1] is None else name


def is_name(target: str) -> bool:
    """Whether a target holds a person's name, whose parts are joined by `^`."""
    known = find_target(target) if target.startswith("dicom:") else None
    return target in _NAMES or (known is not None and known[1] is None and known[0].vr == "PN")


class RecordMapping:
    """A `field_mapping` with the source's `empty_values` and `where`, compiled for many records.

    Attributes:
        rules: One per worklist field.
        columns: All source fields that are needed, including those of `where`.
        is_plain: Each column's value becomes one field unchanged, and no record is left out.
    """

    def __init__(
        self,
        field_mapping: Mapping[str, Any],
        *,
        empty_values: Sequence[str] = EMPTY_VALUES,
        where: Mapping[str, Any] | None = None,
    ) -> None:
        """Compile.

        Args:
            field_mapping: As configured, and checked.
            empty_values: Words that mean "no value" in every column.
            where: Column -> the accepted texts, or {"not": [...]}.
        """
        self.rules = read_field_mapping(field_mapping)
        self._where = [_read_condition(column, said) for column, said in (where or {}).items()]
        self._empty = frozenset((*empty_values, ""))
        named = [column for rule in self.rules for column in rule.columns]
        self.columns = tuple(dict.fromkeys((*named, *(column for column, _, _ in self._where))))
        self.is_plain = not self._where and all(rule.is_plain for rule in self.rules)
        self._plain = {rule.target: rule.columns[0] for rule in self.rules if rule.is_plain}
        self._unseen = {column for column, _, _ in self._where}

    def admits(self, record: Mapping[str, Any]) -> bool:
        """Whether `where` admits a record."""
        return all((_text(look_up(record, column)) in listed) is wanted for column, listed, wanted in self._where)

    def apply(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Return a record's values by worklist field; fields without a value are left out."""
        entry: dict[str, Any] = {}
        if self._where:
            if self._unseen:
                entry = self._note_lacking(record)
            if not self.admits(record):
                return {**entry, LEFT_OUT: True}
        for rule in self.rules:
            column = self._plain.get(rule.target)
            value = self._value(rule, record) if column is None else look_up(record, column)
            if value is not _MISSING:
                entry[rule.target] = value
        return entry

    def source_values(self, record: Mapping[str, Any]) -> dict[str, str]:
        """Return, for people, what a record itself has for the fields that are joined, searched or replaced."""
        return {
            rule.target: " + ".join(text for column in rule.columns if (text := _text(look_up(record, column))))
            for rule in self.rules
            if not rule.is_plain and not rule.alternatives
        }

    def _note_lacking(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Return a mark if the record lacks a field of `where` that no record has had so far."""
        self._unseen -= {column for column in self._unseen if look_up(record, column) is not _MISSING}
        column = min(self._unseen, default=None)
        return {} if column is None else {LACKING: (column, tuple(map(str, record)))}

    def _value(self, rule: FieldRule, record: Mapping[str, Any]) -> object:
        given = [value for column in rule.columns if (value := look_up(record, column)) is not _MISSING]
        if not given:
            return _MISSING
        empty = self._empty | rule.empty
        kept = [value for value in given if _is_something(value, empty)]
        if not kept:
            return None
        if rule.alternatives or (len(kept) == 1 and rule.extract is None and rule.values is None):
            return kept[0]
        if (whole := next((value for value in kept if isinstance(value, Mapping | list | tuple)), None)) is not None:
            # An object or a list is no text: the host refuses it or leaves it out, or takes it as several values.
            return whole
        texts = [_text(value) for value in kept]
        if error := next(filter(is_spreadsheet_error, texts), None):
            # Within a longer joined text nobody would notice it; alone, the host refuses it or leaves it out.
            return error
        text = rule.join.join(texts)
        if rule.extract is not None:
            text = _extracted(rule.extract, rule, text)
        if rule.values is not None:
            return rule.values.get(text, rule.values.get("*", text)) if text else None
        return text or None


def _extracted(pattern: re.Pattern[str], rule: FieldRule, text: str) -> str:
    """Return the part of a text that an expression finds, or "".

    Raises:
        SourceUnavailable: The search takes too long.
    """
    try:
        match = search(pattern, text[:LONGEST_SEARCHED])
    except TimeoutError:
        reason = (
            f'field_mapping: the search by the "extract" of {rule.target} was given up after {LONGEST_SEARCH_S:g} s on'
            " one value; write it without a repetition within a repetition"
        )
        raise SourceUnavailable(reason) from None
    return (match[rule.group] or "").strip() if match else ""


def look_up(record: Mapping[str, Any], column: str) -> object:
    """Find a column's value in a record, or return the mark for "it has none".

    A key of exactly this name comes first; otherwise a dotted path leads through objects and lists ("visits.0.date").
    """
    value = record.get(column, _MISSING)
    if value is not _MISSING or "." not in column:
        return value
    value = record
    for step in column.split("."):
        if isinstance(value, Mapping) and step in value:
            value = value[step]
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            return _MISSING
    return value


def _is_something(value: object, empty: frozenset[str]) -> bool:
    return not is_nothing(value) and not (isinstance(value, str | int | float) and _text(value) in empty)


def _text(value: object) -> str:
    """Write a value as the text that people see in the source."""
    if value is _MISSING or is_nothing(value):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    try:
        return unwrap(as_text("", value))
    except RecordRejected:
        return str(value).strip()


def _read_condition(column: str, said: object) -> tuple[str, frozenset[str], bool]:
    wanted = not isinstance(said, Mapping)
    listed: Any = said["not"] if isinstance(said, Mapping) else said
    texts = (listed,) if isinstance(listed, str | int | float) else listed
    return column, frozenset(map(_text, texts)), wanted


def _read_object(target: str, said: Mapping[str, Any]) -> FieldRule:
    columns = said.get("from", said.get("source_field"))
    extract, group = said.get("extract"), None
    if "_extract" in said:
        extract, group = said["_extract"]["pattern"], int(said["_extract"].get("group", 1))
    pattern = re.compile(extract) if extract else None
    if pattern is not None and group is None:
        group = min(pattern.groups, 1)
    formats, values = said.get("format", ()), said.get("values")
    return FieldRule(
        target=target,
        columns=(columns,) if isinstance(columns, str) else tuple(columns or ()),
        join=said.get("join", "^" if is_name(target_of(target)) else " "),
        extract=pattern,
        group=group or 0,
        values=None
        if values is None
        else {_text(key): None if to is None else _text(to) for key, to in values.items()},
        formats=(formats,) if isinstance(formats, str) else tuple(formats),
        empty=frozenset(map(_text, said.get("empty", ()))),
        labels=said.get("labels") is True,
    )
