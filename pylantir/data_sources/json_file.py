"""The source type `json`: a file, or the answers of an HTTP server, with an object per record.

Lives in a source worker. In: the file or address named in `config`; out: one dictionary per object, streamed: only one
record and a block of text are in memory. Every fetch is a complete snapshot: a document that cannot be read whole fails
the cycle, an element that is no object is a `BadRecord`.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Generator, Iterator, Mapping

from pylantir.data_sources.base import RECORD_LABEL, BadRecord, DataSourcePlugin
from pylantir.data_sources.formats.json_records import (
    EACH,
    RecordsAt,
    Surroundings,
    error_words,
    read_records,
    survey,
)
from pylantir.data_sources.formats.json_stream import Malformed
from pylantir.data_sources.formats.text_encoding import find_undecodable, skip_byte_order_mark
from pylantir.data_sources.options import Options
from pylantir.data_sources.source_file import SourceFile
from pylantir.entry import MAPPING_TARGETS
from pylantir.errors import SourceUnavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, BinaryIO

    from pylantir.data_sources.http_pages import HttpAccess, HttpPages

_FILE_KEYS = ("file_path", "watch_for_changes")
_HTTP_KEYS = ("headers", "next", "timeout", "ca_bundle")
KEYS = (*_FILE_KEYS, "url", *_HTTP_KEYS, "records_path", "key_field")


class JsonPlugin(DataSourcePlugin):
    """Objects of a JSON document, by the (dotted) names of their fields."""

    def __init__(self) -> None:
        self._where = RecordsAt()
        self._file: SourceFile | None = None
        self._access: HttpAccess | None = None
        self._pages: HttpPages | None = None

    def validate_config(self, config: dict[str, Any]) -> tuple[bool, str]:
        """Check the form of the keys of `config`, and keep them; no file is opened and no server is asked."""
        options = Options(config, KEYS)
        problems = options.problems
        self._where = RecordsAt(
            path=options.dotted("records_path", 'as "data.items" or "subjects.*.visits"'),
            key_fields=options.one_or_more("key_field"),
            next_path=options.dotted("next", 'as "links.next"'),
        )
        if self._where.next_path and not self._where.path:
            problems.append(
                'next: needs "records_path": a page that names the next one is an object around the records'
            )
        if EACH in self._where.next_path:
            problems.append('next: expected names joined by dots; "*" would give several addresses')
        if "url" in config:
            problems += [f"{key}: belongs to a file; leave it out beside url" for key in _FILE_KEYS if key in config]
            self._access = _read_access(options, config)
        else:
            problems += [f"{key}: belongs to a server; give url" for key in _HTTP_KEYS if key in config]
            path, watched = options.path("file_path"), options.flag("watch_for_changes", default=False)
            self._file = SourceFile(path, watched=watched)
        return not problems, "; ".join(problems)

    def fetch_entries(self, field_mapping: dict[str, str], interval: float) -> Iterator[Mapping[str, Any] | BadRecord]:
        """Read the file, or all pages, from beginning to end; `interval` plays no part.

        Args:
            field_mapping: Field (dotted for nested ones) -> worklist field; if empty, the fields are named like
                worklist fields.
            interval: Ignored.

        Raises:
            SourceUnavailable: The document cannot be read whole, or has another form.
        """
        if self._access is not None:
            yield from self._fetch_pages(self._access, field_mapping)
        elif self._file is not None:
            with self._file.open_settled() as raw, _told_as(self._file.unavailable, raw) as text:
                around = survey(text, self._where)
                yield from self._read(text, around, field_mapping, "")

    def get_source_name(self) -> str:
        """Name the kind of source."""
        return "JSON file" if self._access is None else "JSON over HTTP"

    def has_changed(self) -> bool:
        """Say whether the watched file has changed since it was last tried."""
        return self._file is not None and self._file.has_changed()

    def _fetch_pages(
        self, access: HttpAccess, field_mapping: Mapping[str, Any]
    ) -> Iterator[Mapping[str, Any] | BadRecord]:
        if self._pages is None:
            from pylantir.data_sources.http_pages import HttpPages

            self._pages = HttpPages(access)
        pages = self._pages
        address, number = pages.begin(), 1
        shown: set[int] = set()
        while address:
            page = address
            prefix = f"page {number}, " if self._where.next_path else ""

            def unavailable(reason: str, place: str = page, prefix: str = prefix) -> SourceUnavailable:
                return pages.unavailable(place, prefix + reason)

            with pages.fetch(page) as raw, _told_as(unavailable, raw) as text:
                around = survey(text, self._where)
                address = pages.next_address(page, around.next_page)
                contents = yield from self._read(text, around, field_mapping, prefix)
                if contents in shown:
                    raise Malformed("gives the same records as an earlier page; does the server know the pages?")
                shown |= {contents} if contents else set()
            number += 1

    def _read(
        self, text: io.TextIOWrapper, around: Surroundings, field_mapping: Mapping[str, Any], prefix: str
    ) -> Generator[Mapping[str, Any] | BadRecord, None, int]:
        """Give the records of one document; refuse a document that holds messages in their place.

        Returns:
            A number by which the same records can be recognised; 0 if none was computed.
        """
        count = strangers = contents = 0
        first_stranger: BadRecord | None = None
        for place, record in read_records(text, self._where, around.fields):
            label = prefix + place
            count += 1
            if self._where.next_path and isinstance(record, dict):
                own = {name: value for name, value in record.items() if name not in around.fields}
                contents = hash((contents, repr(own)))
            if isinstance(record, BadRecord):
                yield record
                continue
            entry = self._map(label, record, field_mapping)
            if isinstance(entry, BadRecord):
                strangers += 1
                first_stranger = first_stranger or entry
            yield entry
        if not count and around.error:
            raise Malformed(f'has no record, but "{around.error}"; what does the server say there?')
        if first_stranger is not None and strangers == count:
            raise Malformed(f"{first_stranger.record.removeprefix(prefix)}: {first_stranger.reason}")
        return contents

    def _map(self, label: str, record: object, field_mapping: Mapping[str, Any]) -> Mapping[str, Any] | BadRecord:
        if not isinstance(record, dict):
            return BadRecord(record=label, field="", reason=f"expected an object, got {type(record).__name__}")
        mapping = field_mapping or {name: name for name in record if name in MAPPING_TARGETS}
        entry = self.map_record(record, mapping)
        if not entry:
            hint = error_words(tuple(record)) or (
                'if the records lie deeper, set "records_path"'
                if any(isinstance(value, list | dict) for value in record.values())
                else "are the fields called otherwise now?"
            )
            return BadRecord(record=label, field="", reason=f"has none of the mapped fields; {hint}")
        entry[RECORD_LABEL] = label
        return entry


@contextlib.contextmanager
def _told_as(unavailable: Any, raw: BinaryIO) -> Iterator[io.TextIOWrapper]:
    """Open a document as text that can be read twice, and report its errors in the words of its file or server."""
    encoding = skip_byte_order_mark(raw)
    text = io.TextIOWrapper(raw, encoding=encoding)
    try:
        yield text
    except Malformed as error:
        raise unavailable(str(error)) from None
    except UnicodeDecodeError as error:
        # The error holds the document's bytes: it must not be chained into a log.
        text.detach()
        raw.seek(0)
        strange = find_undecodable(raw, error.encoding)
        raise unavailable(f"{strange} is not {error.encoding}; JSON has to be UTF-8") from None
    except EOFError:
        raise unavailable("the gzip document is cut short") from None


def _read_access(options: Options, config: Mapping[str, Any]) -> HttpAccess:
    """Read the server's address and the headers to send."""
    # Imported here: a source that reads a file needs no HTTP.
    from pylantir.data_sources.http_pages import HttpAccess, origin_of

    url = options.text("url")
    try:
        origin_of(url)
    except ValueError:
        options.problems.append(
            "url: expected an address such as https://bookings.example.org/api/today, without user and password"
        )
    return HttpAccess(
        url=url,
        headers=_read_headers(options, config.get("headers", {})),
        timeout_s=options.number("timeout", 60.0, 0.1),
        ca_bundle=options.text("ca_bundle"),
    )


def _read_headers(options: Options, headers: object) -> dict[str, str]:
    read: dict[str, str] = {}
    expected = 'expected text, or {"env": "VARIABLE", "prefix": "Bearer "}'
    if not isinstance(headers, Mapping):
        options.problems.append(f"headers: expected an object of headers; each {expected.removeprefix('expected ')}")
        return read
    for name, given in headers.items():
        if name.startswith("_"):
            continue
        value = given
        if isinstance(given, Mapping):
            variable, prefix = given.get("env"), given.get("prefix", "")
            unknown = given.keys() - {"env", "prefix"}
            value = os.environ.get(variable, "").strip() if isinstance(variable, str) else None
            if value == "":
                options.problems.append(f"headers.{name}: the environment variable {variable} is not set")
                continue
            value = f"{prefix}{value}" if value and isinstance(prefix, str) and not unknown else None
        # Not repeated: it could be a secret.
        if not isinstance(value, str):
            options.problems.append(f"headers.{name}: {expected}")
        elif not name.isascii() or not name.replace("-", "").replace("_", "").isalnum():
            options.problems.append(f'headers: "{name}" is no name of a header')
        elif not (value.isascii() and value.isprintable()):
            options.problems.append(f"headers.{name}: has a character that no header may hold; a line end perhaps")
        else:
            read[name] = value
    return read
