"""The source type `csv`: a text file with a header row.

Lives in a source worker. In: the file named in `config`; out: one dictionary per row, streamed. Every fetch is a
complete snapshot: a file that cannot be read whole fails the cycle, a row that cannot be read is a `BadRecord`.
"""

from __future__ import annotations

import csv
import io
import itertools
import logging
from collections import deque
from collections.abc import Iterator, Mapping
from operator import itemgetter, methodcaller

from pylantir.columns import LEFT_OUT
from pylantir.data_sources.base import RECORD_LABEL, BadRecord, DataSourcePlugin
from pylantir.data_sources.formats.bounded_lines import LONGEST_LINE_BYTES, BoundedLines, LineTooLong
from pylantir.data_sources.formats.columns import repeated_names
from pylantir.data_sources.formats.csv_layout import (
    BLANK,
    delimiter_hint,
    detect_delimiter,
    header_problems,
    is_blank,
    is_header,
    lines_above_header,
    told_twice,
)
from pylantir.data_sources.formats.text_encoding import find_undecodable, looks_misread, skip_byte_order_mark
from pylantir.data_sources.options import Options
from pylantir.data_sources.source_file import SourceFile
from pylantir.entry import MAPPING_TARGETS, REQUIRED_FIELDS, START_FIELD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, BinaryIO, TextIO

logger = logging.getLogger(__name__)

KEYS = ("file_path", "delimiter", "encoding", "watch_for_changes", "skip_rows", "skip_footer", "short_rows")
_FALLBACK_ENCODING = "cp1252"
_MISREAD = (
    f'is no name as {_FALLBACK_ENCODING}, as which the file is read because it is not UTF-8; set "encoding" to what '
    'the export writes, as "cp1250", "mac_roman" or "cp850"'
)
_WITHOUT_MARK = methodcaller("removeprefix", "\ufeff")
"""Takes away a byte order mark."""
_LONGEST_LINE = 1 << 20
_LINES_SEARCHED = 30

Row = tuple[int, list[str]]


class CsvPlugin(DataSourcePlugin):
    """Rows of a CSV file, by the names in its header."""

    def __init__(self) -> None:
        self._delimiter = self._encoding = ""
        self._skip_rows = self._skip_footer = 0
        self._accept_short = True
        self._guesses = False
        self._warned: set[str] = set()

    def validate_config(self, config: dict[str, Any]) -> tuple[bool, str]:
        """Check the form of the keys of `config`, and keep them; open nothing."""
        options = Options(config, KEYS)
        problems = options.problems
        path = options.path("file_path")
        delimiter = str(config.get("delimiter") or "")
        self._delimiter = "\t" if delimiter.lower() in {"tab", "\\t"} else delimiter
        if "delimiter" in config and (len(self._delimiter) != 1 or self._delimiter in '"\r\n'):
            problems.append(f'delimiter: expected one character or "tab", got {config["delimiter"]!r}')
        self._encoding = options.text("encoding")
        try:
            "".encode(self._encoding or "utf-8")
        except LookupError:
            problems.append(f'encoding: "{self._encoding}" is unknown; try "utf-8", "cp1252" or "latin-1"')
        self._skip_rows, self._skip_footer = options.count("skip_rows"), options.count("skip_footer")
        self._accept_short = options.choice("short_rows", ("accept", "reject")) == "accept"
        self._file = SourceFile(path, watched=options.flag("watch_for_changes", default=False))
        return not problems, "; ".join(problems)

    def fetch_entries(self, field_mapping: dict[str, str], interval: float) -> Iterator[Mapping[str, Any] | BadRecord]:
        """Read the file from beginning to end; `interval` plays no part.

        Args:
            field_mapping: Column -> worklist field; if empty, the columns are named like worklist fields.
            interval: Ignored.

        Raises:
            SourceUnavailable: The file cannot be read whole, or lacks a mapped column.
        """
        with self._file.open_settled() as raw:
            encoding = self._encoding or self._detect_encoding(raw)
            self._guesses = not self._encoding and encoding == _FALLBACK_ENCODING
            text = io.TextIOWrapper(BoundedLines(raw), encoding=encoding, newline="")  # type: ignore[type-var]
            # Where files were put one behind the other, each of them may begin with a mark.
            lines = map(_WITHOUT_MARK, text)
            above = 0
            try:
                first, above, delimiter = self._find_header(text, field_mapping)
                rows = csv.reader(
                    itertools.chain([first], lines), delimiter=delimiter, strict=True,
                    # Without it, quotes behind a blank would be part of the value.
                    skipinitialspace=delimiter != " " and f"{delimiter} " in first,
                )  # fmt: skip
                yield from self._read(rows, field_mapping, above + 1, text)
            except csv.Error as error:
                # A quote that is never closed swallows rows: failing is better than giving half of the rows.
                line = rows.line_num + above
                raise self._file.unavailable(f"line {line}: {error}; check its quotes") from None
            except LineTooLong:
                raise self._file.unavailable(
                    f"a line has more than {LONGEST_LINE_BYTES >> 20} million bytes; is it a CSV file?"
                ) from None
            except UnicodeError:
                # The error holds the file's bytes: it must not be chained into a log.
                text.detach()
                raise self._file.unavailable(_told_encoding(raw, encoding)) from None

    def get_source_name(self) -> str:
        """Name the kind of source."""
        return "CSV file"

    def has_changed(self) -> bool:
        """Say whether the watched file has changed since it was last tried."""
        return self._file.has_changed()

    def _find_header(self, text: TextIO, field_mapping: Mapping[str, Any]) -> tuple[str, int, str]:
        """Skip the lines above the header.

        Returns:
            The header's line, the number of lines above it, and the delimiter.
        """
        delimiter = self._delimiter
        for above in itertools.count():
            line = text.readline(_LONGEST_LINE)
            if len(line) == _LONGEST_LINE:
                raise self._file.unavailable(f"line {above + 1} has more than a million characters; is it a CSV file?")
            line = _WITHOUT_MARK(line)
            hint = delimiter_hint(line)
            delimiter = delimiter or hint
            if not line:
                break
            if above >= self._skip_rows and not hint and line.strip(BLANK):
                return (
                    line,
                    above,
                    delimiter or detect_delimiter(line, self.record_mapping(field_mapping).columns or MAPPING_NAMES),
                )
        raise self._file.unavailable(f"row {above} (the header): expected column names, found an empty line")

    def _read(
        self, rows: Iterator[list[str]], field_mapping: Mapping[str, Any], header_row: int, text: TextIO
    ) -> Iterator[Mapping[str, Any] | BadRecord]:
        header = [name.strip(BLANK) for name in next(rows, [])]
        mapping = field_mapping or {name: name for name in header if name in MAPPING_TARGETS}
        read = self.record_mapping(mapping)
        self._check_header(header, read.columns, header_row, text)
        width, targets = len(header), [rule.target for rule in read.rules]
        # An itemgetter of one item gives no tuple; a mapping that does more than rename takes the slower path.
        plain = read.is_plain and len(targets) > 1
        pick = itemgetter(*(header.index(rule.columns[0]) for rule in read.rules)) if plain else None
        numbered = enumerate(rows, header_row + 1)
        names = frozenset(filter(None, header))
        for number, row in self._without_footer(numbered, header) if self._skip_footer else numbered:
            if row and row[0] in names and self._repeats_header(number, row, header):
                continue
            found = len(row)
            # A row of full width is blank only if its first cell is: a cheap check to make first.
            if found != width or row[0] < "!":
                if is_blank(row):
                    continue
                if (found < width and not self._accept_short) or not is_blank(row[width:]):
                    yield _ragged(number, found, header)
                    continue
                row = row + [""] * (width - found)  # noqa: PLW2901 - the row that the header announces
            if pick is None:
                entry = self.map_record(dict(zip(header, row, strict=False)), mapping)
            else:
                entry = dict(zip(targets, pick(row), strict=True))
            if found < width and LEFT_OUT not in entry and (missing := _missing_value(entry)):
                yield _too_short(number, found, header, missing)
                continue
            if self._guesses and LEFT_OUT not in entry and looks_misread(str(entry.get("patient_name") or "")):
                yield BadRecord(record=f"row {number}", field="patient_name", reason=_MISREAD)
                continue
            entry[RECORD_LABEL] = f"row {number}"
            yield entry

    def _repeats_header(self, number: int, row: list[str], header: list[str]) -> bool:
        """Say whether a row is the header once more.

        Raises:
            SourceUnavailable: It is another header: the columns of the rows below it have other meanings.
        """
        if not is_header(row, header):
            return False
        if [cell.strip(BLANK) for cell in row[: len(header)]] != header or not is_blank(row[len(header) :]):
            raise self._file.unavailable(
                f"row {number} is a second header, with other columns or in another order; give each of the files that"
                " were put together a source of its own"
            )
        self._warn_once(f"row {number} is the header once more; left out (were files put one behind the other?)")
        return True

    def _without_footer(self, rows: Iterator[Row], header: list[str]) -> Iterator[Row]:
        """Leave out the footer lines. Blank lines after them do not count, unless that would leave out a record."""
        kept: deque[Row] = deque()
        blank = 0
        for number, row in rows:
            empty = is_blank(row)
            if empty and blank >= self._skip_footer:
                # More of them would change nothing, and a spreadsheet may export a million empty rows.
                continue
            kept.append((number, row))
            blank = blank + 1 if empty else 0
            while len(kept) - blank > self._skip_footer:
                yield kept.popleft()
        for number, row in itertools.islice(kept, max(0, len(kept) - self._skip_footer)):
            if len(row) == len(header) and all(cell.strip(BLANK) for cell in row[:2]):
                yield number, row

    def _check_header(self, header: list[str], columns: tuple[str, ...], header_row: int, text: TextIO) -> None:
        """Raise unless the header has each mapped column exactly once."""
        where = f"row {header_row} (the header): "
        if not columns:
            raise self._file.unavailable(where + "no column is a worklist field; add a field_mapping")
        problems = header_problems(header, columns)
        if problems:
            further = lines_above_header(list(itertools.islice(text, _LINES_SEARCHED)), self._delimiter, columns)
            if further:
                rows = header_row - 1 + further
                problems = [f'the mapped columns stand in row {rows + 1}; set "skip_rows": {rows} in config']
            raise self._file.unavailable(where + "; ".join(problems))
        for name, places in repeated_names(header).items():
            self._warn_once(f"{where}{told_twice(name, places)}; none of them is mapped")

    def _detect_encoding(self, raw: BinaryIO) -> str:
        encoding = skip_byte_order_mark(raw)
        if encoding in {"utf-16-le", "utf-16-be"}:
            self._warn_once(f'is UTF-16 without a byte order mark; read as such (set "encoding": "{encoding}")')
        if encoding != "utf-8":
            return encoding
        strange = find_undecodable(raw, encoding)
        if strange is None:
            return encoding
        self._warn_once(
            f"line {strange.line} is not UTF-8; the file is read as {_FALLBACK_ENCODING}"
            ' (set "encoding" to say otherwise)'
        )
        return _FALLBACK_ENCODING

    def _warn_once(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            logger.warning("%s: %s", self._file.path, text)


MAPPING_NAMES = tuple(sorted(MAPPING_TARGETS))


def _told_encoding(raw: BinaryIO, encoding: str) -> str:
    """Say where a file does not follow the encoding that was tried."""
    raw.seek(0)
    try:
        strange = find_undecodable(raw, encoding) or "a byte"
    except UnicodeError:
        strange = "its beginning"  # without the mark of UTF-16 and UTF-32; from Python 3.13 on, they name a byte
    tried = f"neither UTF-8 nor {encoding}" if encoding == _FALLBACK_ENCODING else f"not {encoding}"
    return f'{strange} is {tried}; set "encoding" to what the export writes, as "latin-1" or "cp850"'


def _missing_value(entry: Mapping[str, object]) -> str:
    """Name a required field that has no value, or ""."""
    for name in REQUIRED_FIELDS:
        given = entry.get(name) or (name == "scheduled_start_date" and entry.get(START_FIELD))
        if not str(given or "").strip(BLANK):
            return name
    return ""


def _ragged(number: int, found: int, header: list[str]) -> BadRecord:
    if found < len(header):
        detail = f'the first one missing is "{header[found]}"'
    else:
        detail = f'there is a value right of "{header[-1]}", perhaps an unquoted delimiter'
    reason = f"has {found} columns where the header has {len(header)}; {detail}"
    return BadRecord(record=f"row {number}", field="", reason=reason)


def _too_short(number: int, found: int, header: list[str], missing: str) -> BadRecord:
    cells = "1 column" if found == 1 else f"{found} columns"
    reason = (
        f'has {cells} where the header has {len(header)}; the first one missing is "{header[found]}", and nothing gives'
        f' {missing}; if the file ends in lines that are no records, as "5 records exported", set "skip_footer" to how'
        " many they are"
    )
    return BadRecord(record=f"row {number}", field=missing, reason=reason)
