"""Finds the records in a JSON document: arrays, objects by key, lists within lists, JSON Lines.

Lives in the worker of a JSON source. In: a text that can be read twice. Out: one record after the other, with its place
in words. The names at the start of the path are followed in the stream; from the first `*` on, whole elements are read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pylantir.data_sources.base import BadRecord
from pylantir.data_sources.formats.json_stream import LARGEST_RECORD_CHARS, Malformed, RepeatedName, Scanner, unrepeated

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO

EACH = "*"
_WORDS_OF_ERRORS = ("error", "errors", "message", "detail", "fault", "exception")
_NAMES_OF_ERRORS = ("error", "errors", "fault", "exception")
_NO_LINES = (
    "no whole object of less than 4 million characters; expected an array, one object per line, or an object"
    ' around an array that "records_path" leads to'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordsAt:
    """Where the records are.

    Attributes:
        path: Names of objects' members, and `*` for each element of an array or member of an object.
        key_fields: Fields that take the keys where objects stand by key; the innermost key goes to the last one.
        next_path: Where a page names the next one; empty if it does not.
    """

    path: tuple[str, ...] = ()
    key_fields: tuple[str, ...] = ()
    next_path: tuple[str, ...] = ()


@dataclass(slots=True)
class Surroundings:
    """The data around the records of one document.

    Attributes:
        fields: Plain fields of the objects on the way.
        next_page: What the page says about the next one; None if nothing.
        error: Name of a field beside the records that tells of an error; "" if there is none.
    """

    fields: dict[str, Any] = field(default_factory=dict)
    next_page: object = None
    error: str = ""


def survey(text: TextIO, where: RecordsAt) -> Surroundings:
    """Read a whole document for the data before and after the records; then go back to its beginning.

    Raises:
        Malformed: It cannot be read whole.
    """
    found = Surroundings()
    if (where.path and where.path[0] != EACH) or where.next_path:
        start = text.tell()
        _survey(Scanner(text.read), where.path, where.next_path, found)
        text.seek(start)
    return found


def read_records(text: TextIO, where: RecordsAt, around: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    """Give the records of a document, each with its place.

    Args:
        text: From its beginning.
        where: Where the records are.
        around: Fields that are added to each record that lacks them.

    Raises:
        Malformed: The document cannot be read whole, or has another form.
    """
    start = text.tell()
    scanner = Scanner(text.read)
    first = scanner.peek()
    if first == "{" and not where.path and not where.key_fields:
        text.seek(start)
        yield from _read_lines(text)
        return
    if first == "[" and where.path and where.path[0] != EACH:
        raise Malformed('is an array; take "records_path" out of the configuration, or begin it with "*"')
    if first not in {"[", "{"}:
        raise Malformed("expected an array of objects, or one object per line")
    walk = _Walk(where, around)
    for number, record in enumerate(walk.stream(scanner, where.path), 1):
        label = f"record {number}"
        yield (
            label,
            BadRecord(record=label, field="", reason=record.reason) if isinstance(record, RepeatedName) else record,
        )
    scanner.expect_end()
    walk.check_found()


class _Walk:
    """Goes down the path to the records of one document."""

    def __init__(self, where: RecordsAt, around: Mapping[str, Any]) -> None:
        self._key_fields = where.key_fields
        self._around = around
        self._found: set[str] = set()
        self._missed: set[str] = set()

    def stream(self, scanner: Scanner, path: Sequence[str]) -> Iterator[object]:
        """Follow the path's names in the stream, and continue within each element at a `*` or at the path's end."""
        if path and path[0] != EACH:
            yield from self._stream_member(scanner, path)
        elif scanner.peek() == "{" and (path or self._key_fields):
            for key in scanner.names():
                yield from self._below(scanner.record(), path[1:], (key,), self._around, each=True)
        elif scanner.peek() == "[" and path:
            for _ in scanner.members("[", "]"):
                yield from self._below(scanner.record(), path[1:], (), self._around, each=True)
        elif scanner.peek() == "{":
            raise Malformed('records_path: expected [ where the records are; if they stand by key, set "key_field"')
        else:
            for _ in scanner.members("[", "]"):
                yield self._complete(scanner.record(), (), self._around)

    def check_found(self) -> None:
        """Make sure that at least one element had the field that the path names.

        Raises:
            Malformed: It was in none: the field was probably renamed, and that must not cancel anybody.
        """
        for name in self._missed - self._found:
            raise Malformed(f'records_path: no element has "{name}"')

    def _stream_member(self, scanner: Scanner, path: Sequence[str]) -> Iterator[object]:
        found, names = False, []
        for key in scanner.names():
            if key in names:
                raise Malformed(RepeatedName(key).reason)
            names.append(key)
            if key == path[0]:
                found = True
                yield from self.stream(scanner, path[1:])
            else:
                scanner.skip_members()
        if not found:
            told = error_words(names)
            raise Malformed(f'records_path: there is no "{path[0]}"' + (f", but {told}" if told else ""))

    def _below(
        self, value: object, path: Sequence[str], keys: tuple[str, ...], around: Mapping[str, Any], *, each: bool
    ) -> Iterator[object]:
        """Go down the rest of the path within one element.

        Args:
            value: The element.
            path: The rest.
            keys: The keys under which it stands, the outermost first.
            around: Fields of the objects on the way.
            each: A `*` led here, so an object at the end of the path is itself a record, not a container of records.
        """
        by_key = (path and path[0] == EACH) or (not path and not each and self._key_fields and _stands_by_key(value))
        if isinstance(value, dict) and by_key:
            for key, one in value.items():
                yield from self._below(one, path[1:], (*keys, key), around, each=True)
        elif isinstance(value, list) and (not path or path[0] == EACH):
            for one in value:
                yield from self._below(one, path[1:], keys, around, each=True)
        elif not path or not isinstance(value, dict):
            yield self._complete(value, keys, around)
        elif value.get(path[0]) is None:
            self._missed.add(path[0])
        else:
            self._found.add(path[0])
            yield from self._below(value[path[0]], path[1:], keys, {**around, **_plain_fields(value)}, each=False)

    def _complete(self, value: object, keys: tuple[str, ...], around: Mapping[str, Any]) -> object:
        if not isinstance(value, dict) or not (keys or around):
            return value
        named = dict(zip(reversed(self._key_fields), reversed(keys), strict=False))
        return {**around, **value, **named}


def error_words(names: Sequence[str]) -> str:
    """Return a message if the names of an object's fields look like those of an error message, else ""."""
    errors = [name for name in names if name.lower() in _WORDS_OF_ERRORS]
    return f'"{errors[0]}": it is an error message perhaps' if errors else ""


def _survey(scanner: Scanner, path: Sequence[str], next_path: Sequence[str], found: Surroundings) -> None:
    """Take a value; note the plain fields of the objects on the way, and what stands at the end of `next_path`."""
    by_name = bool(path) and path[0] != EACH
    if scanner.peek() != "{" or not (by_name or next_path):
        scanner.skip_members()
        return
    for name in scanner.names():
        leads_on = name == next_path[0] if next_path else False
        if by_name and name == path[0]:
            _survey(scanner, path[1:], next_path[1:] if leads_on else (), found)
            continue
        is_error = name.lower() in _NAMES_OF_ERRORS
        if not (leads_on or is_error) and scanner.peek() in {"[", "{"}:
            scanner.skip_members()
            continue
        value = scanner.value()
        if leads_on:
            found.next_page = _at(value, next_path[1:])
        elif by_name:
            found.fields |= _plain_fields({name: value})
            if value and is_error:
                found.error = name


def _at(value: object, path: Sequence[str]) -> object:
    """Follow names and numbers through objects and arrays; None where they lead nowhere."""
    for name in path:
        if isinstance(value, list):
            value = dict(enumerate(value)).get(int(name)) if name.isdecimal() else None
        else:
            value = value.get(name) if isinstance(value, dict) else None
    return value


def _plain_fields(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if not isinstance(value, dict | list)}


def _stands_by_key(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(one, dict | list) for one in value.values())


def _read_lines(text: TextIO) -> Iterator[tuple[str, object]]:
    """Read JSON Lines: a bad line costs only its own record."""
    first = True
    for number, line in enumerate(iter(lambda: text.readline(LARGEST_RECORD_CHARS), ""), 1):
        if line.isspace():
            continue
        try:
            yield f"line {number}", json.loads(line, object_pairs_hook=unrepeated)
        except RepeatedName as error:
            yield f"line {number}", BadRecord(record=f"line {number}", field="", reason=error.reason)
        except (ValueError, RecursionError) as error:
            if first or not line.endswith("\n"):
                raise Malformed(f"line {number}: {_NO_LINES if first else 'the file ends too early'}") from None
            reason = f"not valid JSON: {getattr(error, 'msg', type(error).__name__)}"
            yield f"line {number}", BadRecord(record=f"line {number}", field="", reason=reason)
        first = False
