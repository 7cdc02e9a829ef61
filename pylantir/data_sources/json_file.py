"""The source type `json`: a file with an array of objects, an object around such an array, or JSON Lines.

Lives in a source worker. In: the file named in `config`; out: one dictionary per object, streamed: only one record
and a block of text are in memory. Every fetch is a complete snapshot: a file that cannot be read whole fails the
cycle, an element that is no object is a `BadRecord`.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Mapping

from pylantir.data_sources.base import RECORD_LABEL, BadRecord, DataSourcePlugin
from pylantir.data_sources.formats.text_encoding import find_undecodable, skip_byte_order_mark
from pylantir.data_sources.options import Options
from pylantir.data_sources.source_file import SourceFile
from pylantir.entry import MAPPING_TARGETS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO

BLOCK_CHARS = 1 << 16
LARGEST_RECORD_CHARS = 4 << 20
_SPACE = re.compile(r"[ \t\r\n]*")
# How far before the end of a block a token can be cut: `-Infinity`, `\ud83d\ude00`, `1.5e+`.
_LONGEST_CUT = 16

_NO_LINES = (
    "no whole object of less than 4 million characters; expected an array, one object per line, or an object"
    ' around an array that "records_path" leads to'
)


class JsonPlugin(DataSourcePlugin):
    """Objects of a JSON file, by the (dotted) names of their fields."""

    def __init__(self) -> None:
        self._records_path: tuple[str, ...] = ()

    def validate_config(self, config: dict[str, Any]) -> tuple[bool, str]:
        """Check the form of `file_path`, `records_path` and `watch_for_changes`; open nothing."""
        options = Options(config, ("file_path", "records_path", "watch_for_changes"))
        path = options.text("records_path")
        self._records_path = tuple(path.split(".")) if path else ()
        if not all(self._records_path):
            options.problems.append(f'records_path: expected names joined by dots, as "data.items", got {path!r}')
        self._file = SourceFile(options.path("file_path"), watched=options.flag("watch_for_changes", default=False))
        return not options.problems, "; ".join(options.problems)

    def fetch_entries(self, field_mapping: dict[str, str], interval: float) -> Iterator[Mapping[str, Any] | BadRecord]:
        """Read the file from beginning to end; `interval` plays no part.

        Args:
            field_mapping: Field (dotted for nested ones) -> worklist field; if empty, the fields are named like
                worklist fields.
            interval: Ignored.

        Raises:
            SourceUnavailable: The file cannot be read whole, or has another form.
        """
        with self._file.open_settled() as raw:
            text = io.TextIOWrapper(raw, encoding=skip_byte_order_mark(raw))
            try:
                for label, record in self._records(text):
                    if isinstance(record, BadRecord):
                        yield record
                    elif isinstance(record, dict):
                        yield self._map(label, record, field_mapping)
                    else:
                        reason = f"expected an object, got {type(record).__name__}"
                        yield BadRecord(record=label, field="", reason=reason)
            except _Malformed as error:
                raise self._file.unavailable(str(error)) from None
            except UnicodeDecodeError as error:
                # The error holds the file's bytes: it must not be chained into a log.
                text.detach()
                raw.seek(0)
                strange = find_undecodable(raw, error.encoding)
                raise self._file.unavailable(f"{strange} is not {error.encoding}; JSON has to be UTF-8") from None

    def get_source_name(self) -> str:
        """Name the kind of source."""
        return "JSON file"

    def has_changed(self) -> bool:
        """Say whether the watched file is another one than was last read."""
        return self._file.has_changed()

    def _map(self, label: str, record: dict[str, Any], field_mapping: Mapping[str, str]) -> dict[str, Any]:
        if field_mapping:
            entry = self.map_record(record, field_mapping)
        else:
            entry = {name: value for name, value in record.items() if name in MAPPING_TARGETS}
        if not entry and any(isinstance(value, list | dict) for value in record.values()):
            raise _Malformed(f'{label}: has none of the mapped fields; if the records lie deeper, set "records_path"')
        entry[RECORD_LABEL] = label
        return entry

    def _records(self, text: TextIO) -> Iterator[tuple[str, object]]:
        start = text.tell()
        scanner = _Scanner(text)
        first = scanner.peek()
        if first == "[" and self._records_path:
            raise _Malformed('is an array; take "records_path" out of the configuration')
        if first == "[" or self._records_path:
            yield from _read_below(scanner, self._records_path)
            scanner.expect_end()
        elif first == "{":
            text.seek(start)
            yield from _read_lines(text)
        else:
            raise _Malformed("expected an array of objects, or one object per line")


class _Malformed(Exception):
    """What is wrong with the form of a file; holds none of its values."""


class _Scanner:
    """Takes JSON values from a text one by one, and holds no more of it than the value at hand."""

    def __init__(self, text: TextIO) -> None:
        self._text = text
        self._decode = json.JSONDecoder().raw_decode
        self._buffer = ""
        self._position = 0
        self._dropped = 0

    def peek(self) -> str:
        """Give the next character that is no white space, or "" at the end."""
        while True:
            match = _SPACE.match(self._buffer, self._position)
            self._position = match.end() if match else self._position
            if self._position < len(self._buffer):
                return self._buffer[self._position]
            if not self._read_more():
                return ""

    def take(self, *expected: str) -> str:
        """Step over one of the expected characters and say which it was."""
        found = self.peek()
        if found not in expected or not found:
            raise self._malformed(f"expected {' or '.join(expected)}" if found else "the file ends too early")
        self._position += 1
        return found

    def expect_end(self) -> None:
        if self.peek():
            raise self._malformed("expected the end of the file")

    def value(self) -> object:
        """Take a whole value."""
        self.peek()
        while True:
            try:
                value, end = self._decode(self._buffer, self._position)
            except json.JSONDecodeError as error:
                cut = error.pos >= len(self._buffer) - _LONGEST_CUT or error.msg.startswith("Unterminated")
                if not cut or not self._read_more():
                    self._position = error.pos
                    raise self._malformed(error.msg) from None
            except (ValueError, RecursionError) as error:
                raise self._malformed(f"{type(error).__name__}: a number too long or too many levels") from None
            else:
                # A number near the end of the block may go on in the next one: 1, 1.5, 1.5e+7.
                cut = isinstance(value, int | float) and end >= len(self._buffer) - _LONGEST_CUT
                if not cut or not self._read_more():
                    self._position = end
                    return value

    def _read_more(self) -> bool:
        if len(self._buffer) - self._position > LARGEST_RECORD_CHARS:
            raise self._malformed(f"a record has more than {LARGEST_RECORD_CHARS} characters, or a quote is missing")
        # As much again as is waiting already, or a long record would be scanned once per block.
        more = self._text.read(max(BLOCK_CHARS, len(self._buffer) - self._position))
        if not more:
            return False
        self._dropped += self._position
        self._buffer = self._buffer[self._position :] + more
        self._position = 0
        return True

    def _malformed(self, what: str) -> _Malformed:
        return _Malformed(f"character {self._dropped + self._position + 1}: {what}")


def _members(scanner: _Scanner, opening: str, closing: str) -> Iterator[int]:
    """Stop before each member of an array or object, which the caller has to take; count them from 1."""
    scanner.take(opening)
    more = scanner.peek() != closing
    if not more:
        scanner.take(closing)
    count = 0
    while more:
        count += 1
        yield count
        more = scanner.take(",", closing) == ","


def _read_below(scanner: _Scanner, path: tuple[str, ...]) -> Iterator[tuple[str, object]]:
    """Step down a path of object keys to an array, and give its elements with their places."""
    if not path:
        for number in _members(scanner, "[", "]"):
            yield f"record {number}", scanner.value()
        return
    found = False
    for _ in _members(scanner, "{", "}"):
        key = scanner.value()
        scanner.take(":")
        if key == path[0] and not found:
            found = True
            yield from _read_below(scanner, path[1:])
        else:
            scanner.value()
    if not found:
        raise _Malformed(f'records_path: there is no "{path[0]}"')


def _read_lines(text: TextIO) -> Iterator[tuple[str, object]]:
    """Read JSON Lines: a bad line costs only its own record."""
    first = True
    for number, line in enumerate(iter(lambda: text.readline(LARGEST_RECORD_CHARS), ""), 1):
        if line.isspace():
            continue
        try:
            yield f"line {number}", json.loads(line)
        except (ValueError, RecursionError) as error:
            if first or not line.endswith("\n"):
                raise _Malformed(f"line {number}: {_NO_LINES if first else 'the file ends too early'}") from None
            reason = f"not valid JSON: {getattr(error, 'msg', type(error).__name__)}"
            yield f"line {number}", BadRecord(record=f"line {number}", field="", reason=reason)
        first = False
