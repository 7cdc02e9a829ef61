"""Reads the beginning of an export: its columns, some of its values, and the options for reading it.

Lives in `pylantir init`. In: the path of a CSV or JSON file. Out: columns with texts, and the keys of `config`.
"""

from __future__ import annotations

import csv
import gzip
import itertools
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

from pylantir.cli.proposal.headings import meanings
from pylantir.data_sources.formats.csv_layout import BLANK, DELIMITERS, delimiter_hint, is_blank, split_line
from pylantir.data_sources.formats.file_kind import GZIP, HEAD_BYTES, strange_kind
from pylantir.data_sources.formats.text_encoding import skip_byte_order_mark
from pylantir.errors import PylantirError

MOST_BYTES = 64 << 20
MOST_ROWS = 5000
_LINES_SEARCHED = 20
_DEEPEST = 4


@dataclass(slots=True)
class Sample:
    """The beginning of an export.

    Attributes:
        kind: `csv` or `json`.
        columns: Name -> its values in the order of the records; "" where a record has none.
        options: Keys of `config` that are needed to read it.
        notes: What the reader should know.
    """

    kind: str
    columns: dict[str, list[str]]
    options: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read_sample(path: Path) -> Sample:
    """Read the beginning of an export.

    Raises:
        PylantirError: The file is neither CSV nor JSON; the message says what it is.
    """
    if path.exists() and not path.is_file():
        raise PylantirError(f"{path}: cannot be read: it is no regular file")
    try:
        with path.open("rb") as file:
            is_packed = file.read(len(GZIP)) == GZIP
            file.seek(0)
            content = (gzip.GzipFile(fileobj=file) if is_packed else file).read(MOST_BYTES)
    except (OSError, EOFError, zlib.error) as error:
        raise PylantirError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or 'damaged gzip'}") from None
    if strange := strange_kind(content[:HEAD_BYTES]):
        raise PylantirError(f"{path}: {strange}")
    raw = BytesIO(content)
    encoding, options = skip_byte_order_mark(raw), {}
    try:
        text = raw.read().decode(encoding)
    except UnicodeDecodeError:
        encoding, text = "cp1252", content.decode("cp1252", "replace")
    if encoding not in {"utf-8", "utf-16", "utf-32"}:
        options["encoding"] = encoding
    if text.lstrip(BLANK)[:1] in {"{", "["}:
        return _read_json(path, text)
    return _read_csv(path, text, options)


def _read_csv(path: Path, text: str, options: dict[str, Any]) -> Sample:
    lines = text.splitlines(keepends=True)
    best = (0, 0, 0, ",")
    for number, line in enumerate(lines[:_LINES_SEARCHED]):
        if hint := delimiter_hint(line):
            best = max(best, (0, 0, -number, hint))
            continue
        for delimiter in DELIMITERS:
            names = [name for name in split_line(line, delimiter) if name]
            best = max(best, (len(meanings(names)), len(names), -number, delimiter))
    known, _, negative, delimiter = best
    if not known:
        raise PylantirError(
            f"{path}: no line of the first {_LINES_SEARCHED} has headings that are known here; "
            "`pylantir init` without --from writes a configuration to change by hand"
        )
    above = [line for line in lines[:-negative] if line.strip(BLANK) and not delimiter_hint(line)]
    if above:
        options["skip_rows"] = -negative
    if delimiter != ",":
        options["delimiter"] = "tab" if delimiter == "\t" else delimiter
    rows = csv.reader(lines[-negative:], delimiter=delimiter)
    try:
        header = [name.strip(BLANK) for name in next(rows)]
        records = [row for row in itertools.islice(rows, MOST_ROWS) if not is_blank(row)]
    except csv.Error as error:
        raise PylantirError(f"{path}: line {rows.line_num - negative}: {error}; check its quotes") from None
    sample = Sample("csv", {}, options)
    if (
        len(header) > 2
        and records
        and len(rest := [cell for cell in records[-1] if cell.strip(BLANK)]) == 1
        and len(records[-1]) == 1
    ):
        options["skip_footer"] = len(rest)
        records.pop()
        sample.notes.append("the last line is taken for a footer (skip_footer)")
    for place, name in enumerate(header):
        if name and header.count(name) == 1:
            sample.columns[name] = [row[place] if place < len(row) else "" for row in records]
        elif name and name not in str(sample.notes):
            sample.notes.append(f'"{name}" stands over several columns and is not mapped')
    return sample


def _read_json(path: Path, text: str) -> Sample:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        try:
            document = [json.loads(line) for line in text.splitlines() if line.strip()]
        except (ValueError, RecursionError) as error:
            raise PylantirError(f"{path}: is no JSON: {getattr(error, 'msg', 'unreadable')}") from None
    found = max(_places(document, ()), key=lambda one: (one[0], one[1].count("*")), default=None)
    if found is None or not found[0]:
        raise PylantirError(f"{path}: no records with fields that are known here; write the configuration by hand")
    _, location, keyed, records = found
    options: dict[str, Any] = {"records_path": ".".join(location)} if location else {}
    if keyed:
        options["key_field"] = "_key"
    flat = [_flatten(record) for record in records[:MOST_ROWS]]
    names = dict.fromkeys(itertools.chain.from_iterable(flat))
    return Sample("json", {name: [one.get(name, "") for one in flat] for name in names}, options)


def _places(value: object, path: tuple[str, ...]) -> Iterator[tuple[int, tuple[str, ...], bool, list[Any]]]:
    """Yield the places where the records may be, with the number of known headings at each."""
    if len(path) > _DEEPEST:
        return
    if isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
        yield _score(value), path, False, value
        for name in dict.fromkeys(itertools.chain.from_iterable(value)):
            inner = [one.get(name) for one in value]
            if any(isinstance(one, list) and one and isinstance(one[0], dict) for one in inner):
                records = [
                    {**_plain(one), **visit}
                    for one in value
                    for visit in one.get(name) or ()
                    if isinstance(visit, dict)
                ]
                yield _score(records), (*path, "*", name), False, records
    elif isinstance(value, dict):
        members = list(value.values())
        if len(members) > 1 and all(isinstance(one, dict) for one in members):
            records = [{**one, "_key": key} for key, one in value.items()]
            yield _score(records), path, True, records
        for name, inner in value.items():
            for score, place, keyed, records in _places(inner, (*path, name)):
                around = _plain(value)
                yield score, place, keyed, [{**around, **one} for one in records]


def _score(records: list[Any]) -> int:
    names = dict.fromkeys(itertools.chain.from_iterable(_flatten(one) for one in records[:50]))
    return len(set(meanings(list(names)).values()))


def _plain(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if not isinstance(value, dict | list)}


def _flatten(record: Mapping[str, Any], prefix: str = "", depth: int = 0) -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in record.items():
        if isinstance(value, list):
            value = dict(enumerate(value[:1]))  # noqa: PLW2901 - reached by number
        if isinstance(value, dict) and depth < _DEEPEST:
            flat |= _flatten({str(key): one for key, one in value.items()}, f"{prefix}{name}.", depth + 1)
        elif not isinstance(value, dict):
            flat[prefix + name] = "" if value is None else str(value)
    return flat
