"""The source type `csv`: a text file with a header row.

Lives in a source worker. In: the file named in `config`; out: one dictionary per row, streamed. Every fetch is a
complete snapshot: a file that cannot be read whole fails the cycle, a row that cannot be read is a `BadRecord`.
"""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import logging
import re
from collections.abc import Iterator, Mapping
from operator import itemgetter

from pylantir.data_sources.base import RECORD_LABEL, BadRecord, DataSourcePlugin
from pylantir.data_sources.source_file import SourceFile, check_options, near_name, skip_byte_order_mark
from pylantir.entry import MAPPING_TARGETS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, BinaryIO

logger = logging.getLogger(__name__)

DELIMITERS = (",", ";", "\t", "|")
_FALLBACK_ENCODING = "cp1252"
_BLOCK_BYTES = 1 << 20
_HINT = re.compile(r"sep=(.)\s*", re.IGNORECASE)


class CsvPlugin(DataSourcePlugin):
    """Rows of a CSV file, by the names in its header."""

    def __init__(self) -> None:
        self._delimiter: str | None = None
        self._encoding: str | None = None
        self._warned: set[str] = set()

    def validate_config(self, config: dict[str, Any]) -> tuple[bool, str]:
        """Check the form of `file_path`, `delimiter`, `encoding` and `watch_for_changes`; open nothing."""
        problem = check_options(config, ("file_path", "delimiter", "encoding"), ("watch_for_changes",))
        if problem:
            return False, problem
        delimiter = config.get("delimiter")
        if delimiter is not None:
            delimiter = "\t" if delimiter.lower() in {"tab", "\\t"} else delimiter
            if len(delimiter) != 1 or delimiter in '"\r\n':
                return False, f'delimiter: expected one character or "tab", got {delimiter!r}'
        encoding = config.get("encoding")
        if encoding is not None:
            try:
                "".encode(encoding)
            except LookupError:
                return False, f'encoding: "{encoding}" is unknown; try "utf-8", "cp1252" or "latin-1"'
        self._delimiter, self._encoding = delimiter, encoding
        self._file = SourceFile(config["file_path"], watched=config.get("watch_for_changes", False))
        return True, ""

    def fetch_entries(self, field_mapping: dict[str, str], interval: float) -> Iterator[Mapping[str, Any] | BadRecord]:
        """Read the file from beginning to end; `interval` plays no part.

        Args:
            field_mapping: Column -> worklist field; if empty, the columns are named like worklist fields.
            interval: Ignored.

        Raises:
            SourceUnavailable: The file cannot be read whole, or lacks a mapped column.
        """
        with self._file.open_settled() as raw:
            text = io.TextIOWrapper(raw, encoding=self._encoding or self._detect_encoding(raw), newline="")
            first = text.readline().removeprefix("\ufeff")
            hint = _HINT.fullmatch(first)
            if hint:
                first = text.readline()
            delimiter = self._delimiter or (hint[1] if hint else _detect_delimiter(first, field_mapping))
            rows = csv.reader(itertools.chain([first], text), delimiter=delimiter, strict=True)
            try:
                yield from self._read(rows, field_mapping, 2 if hint else 1)
            except csv.Error as error:
                # A quote that is never closed swallows rows: better no news than half the rows.
                line = rows.line_num + (1 if hint else 0)
                raise self._file.unavailable(f"line {line}: {error}; check its quotes") from None

    def get_source_name(self) -> str:
        """Name the kind of source."""
        return "CSV file"

    def has_changed(self) -> bool:
        """Say whether the watched file is another one than was last read."""
        return self._file.has_changed()

    def _read(
        self, rows: Iterator[list[str]], field_mapping: Mapping[str, str], header_row: int
    ) -> Iterator[Mapping[str, Any] | BadRecord]:
        header = [name.strip() for name in next(rows, [])]
        mapping = field_mapping or {name: name for name in header if name in MAPPING_TARGETS}
        columns = self._find_columns(header, mapping, header_row)
        width = len(header)
        targets = tuple(mapping.values())
        # A getter of one item gives no tuple; where columns share a target, the first that is not empty counts.
        pick = itemgetter(*columns) if 1 < len(set(targets)) == len(targets) else None
        for number, row in enumerate(rows, header_row + 1):
            if not any(row):
                continue
            if len(row) != width and (len(row) < width or any(row[width:])):
                yield _ragged(number, len(row), header)
                continue
            if pick is None:
                entry = self.map_record(dict(zip(header, row, strict=False)), mapping)
            else:
                entry = dict(zip(targets, pick(row), strict=True))
            entry[RECORD_LABEL] = f"row {number}"
            yield entry

    def _find_columns(self, header: list[str], mapping: Mapping[str, str], header_row: int) -> list[int]:
        """Say where the mapped columns are."""
        where = f"row {header_row} (the header): "
        if not any(header):
            raise self._file.unavailable(where + "expected column names, found an empty line")
        if not mapping:
            raise self._file.unavailable(where + "no column is a worklist field; add a field_mapping")
        if not set(mapping).intersection(header):
            # Without a header this row is a patient: none of it may be repeated.
            raise self._file.unavailable(where + "none of the mapped columns is here; does the file have a header?")
        problems = [
            f'no column "{name}"{near_name(name, tuple(filter(None, header)))}'
            for name in mapping
            if name not in header
        ]
        for name in dict.fromkeys(name for name in header if name and header.count(name) > 1):
            places = " and ".join(str(i) for i, other in enumerate(header, 1) if other == name)
            text = f'the name "{name}" stands over columns {places}'
            if name in mapping:
                problems.append(text + "; rename one")
            else:
                self._warn_once(where + text + "; none of them is mapped")
        if problems:
            raise self._file.unavailable(where + "; ".join(problems))
        return [header.index(name) for name in mapping]

    def _detect_encoding(self, raw: BinaryIO) -> str:
        """Find the encoding by reading the file once through, which costs little beside parsing it."""
        encoding = skip_byte_order_mark(raw)
        if encoding != "utf-8":
            return encoding
        start = raw.tell()
        decoder = codecs.getincrementaldecoder(encoding)()
        block, line = raw.read(_BLOCK_BYTES), 1
        try:
            while block:
                decoder.decode(block)
                line += block.count(b"\n")
                block = raw.read(_BLOCK_BYTES)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            line += block.count(b"\n", 0, error.start)
            self._warn_once(
                f'line {line} is not UTF-8; the file is read as {_FALLBACK_ENCODING} (set "encoding" to say otherwise)'
            )
            return _FALLBACK_ENCODING
        finally:
            raw.seek(start)
        return encoding

    def _warn_once(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            logger.warning("%s: %s", self._file.path, text)


def _detect_delimiter(header_line: str, mapping: Mapping[str, str]) -> str:
    """Take the delimiter that finds the most mapped columns, then the one that finds the most columns."""

    def columns_found(delimiter: str) -> tuple[int, int]:
        try:
            names = [name.strip() for name in next(csv.reader([header_line], delimiter=delimiter), [])]
        except csv.Error:
            return 0, 0
        wanted = mapping or MAPPING_TARGETS
        return sum(name in wanted for name in names), len(names)

    return max(DELIMITERS, key=columns_found)


def _ragged(number: int, found: int, header: list[str]) -> BadRecord:
    if found < len(header):
        detail = f'the first one missing is "{header[found]}"'
    else:
        detail = f'there is a value right of "{header[-1]}", perhaps an unquoted delimiter'
    reason = f"has {found} columns where the header has {len(header)}; {detail}"
    return BadRecord(record=f"row {number}", field="", reason=reason)
