"""Any database that SQLAlchemy reaches, as a source of worklist entries: one query, a row per entry.

Lives in the worker of an SQL source (and in the configuration check, which asks for `validate_config` alone). In:
`config` with an address and a query; out: one dictionary per row. Without `:since` in the query every fetch is the
complete picture; with it, a fetch gives what changed.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from pylantir.data_sources.base import RECORD_LABEL, BadRecord, DataSourcePlugin
from pylantir.data_sources.formats.columns import repeated_names
from pylantir.data_sources.options import Options, near_name
from pylantir.data_sources.wall_clock import wall_clock_before
from pylantir.entry import MAPPING_TARGETS
from pylantir.errors import SourceUnavailable

logger = logging.getLogger(__name__)

KEYS = ("url", "url_env", "query", "query_file", "timezone", "statement_timeout", "fetch_size")

_PARAMETER = re.compile(r"(?<![:\w\\]):(\w+)(?!:)")
_ADDRESS = re.compile(r"[a-z][a-z0-9_]*(?:\+[a-z0-9_]+)?://.*", re.IGNORECASE | re.DOTALL)


class SqlPlugin(DataSourcePlugin):
    """Reads entries from a database with a query."""

    type_name = "sql"

    def __init__(self) -> None:
        self._url = self._query = self._query_file = self._time_zone = ""
        self._statement_timeout_s, self._fetch_size = 60.0, 1000
        self._next_query: str | None = None
        self._told_where = False

    def get_source_name(self) -> str:
        """Say what kind of source this is."""
        return "SQL database"

    def validate_config(self, config: dict[str, Any]) -> tuple[bool, str]:
        """Check the form of `config`, and keep it. Touches neither the database nor the query's file."""
        options = Options(config, KEYS)
        url, url_env = options.text("url"), options.text("url_env")
        self._url = url or os.environ.get(url_env, "").strip()
        self._query, self._query_file = options.text("query"), options.text("query_file")
        self._time_zone = options.time_zone("timezone")
        self._statement_timeout_s = options.number("statement_timeout", 60.0, 0.1)
        self._fetch_size = int(options.number("fetch_size", 1000, 1))
        problems = options.problems
        if bool(url) == bool(url_env):
            problems.append("give the address of the database in url, or in the variable that url_env names")
        elif not self._url:
            problems.append(f"the environment variable {url_env} is not set; it holds the address of the database")
        elif not _ADDRESS.fullmatch(self._url):
            # The address is not repeated: it may hold a password.
            expected = "expected an address such as postgresql+psycopg://user:password@host/database"
            problems.append(f"{url_env or 'url'}: {expected}")
        if bool(self._query) == bool(self._query_file):
            problems.append("give either query or query_file")
        if strange := _strange_parameters(self._query):
            problems.append(strange)
        return not problems, "; ".join(problems)

    def supports_incremental_sync(self) -> bool:
        """Say whether the query asks for changes only, that is, whether it contains `:since`."""
        try:
            # Kept for the fetch that follows: the file may change in between, and a fetch of what changed must
            # not be taken for the complete picture.
            self._next_query = self._read_query()
        except SourceUnavailable:
            return True  # the fetch will fail and tell why
        return "since" in _PARAMETER.findall(self._next_query)

    def fetch_entries(self, field_mapping: dict[str, str], interval: float) -> Iterator[Mapping[str, Any] | BadRecord]:
        """Run the query and give its rows as they come.

        Raises:
            SourceUnavailable: The database or the query is at fault, or a mapped column is missing.
        """
        # Imported here: SQLAlchemy takes a quarter of a second, which the configuration check does not have.
        from pylantir.data_sources.sql_connection import SqlAccess, stream_rows

        query, self._next_query = self._next_query or self._read_query(), None
        access = SqlAccess(
            url=self._url,
            statement_timeout_s=self._statement_timeout_s,
            fetch_size=self._fetch_size,
            time_zone=self._time_zone or self.timezone,
        )
        since = None
        if "since" in _PARAMETER.findall(query):
            since = partial(look_back, datetime.datetime.now(datetime.UTC), interval, self._time_zone)
            if self.where and not self._told_where:
                self._told_where = True
                logger.warning(
                    'with :since, what "where" leaves out later on stays on the worklist; leave one of the two out,'
                    " or map the column to performed_procedure_step_status"
                )
        # Closed here: a generator that is forgotten half-way keeps its connection.
        with contextlib.closing(stream_rows(access, query, since)) as rows:
            columns, read = next(rows), self.record_mapping(field_mapping).columns
            if not field_mapping:
                read = (*read, *(name for name in map(str.lower, columns) if name in MAPPING_TARGETS))
            names = name_columns(columns, read)
            mapping = field_mapping or dict(zip(names, names, strict=True))
            for number, row in enumerate(rows, 1):
                entry = self.map_record(dict(zip(names, map(plain_value, row), strict=True)), mapping)
                entry[RECORD_LABEL] = f"row {number}"
                yield entry

    def _read_query(self) -> str:
        if self._query:
            return self._query
        try:
            with open(self._query_file, encoding="utf-8-sig") as file:
                query = file.read().strip().rstrip(";")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
            raise SourceUnavailable(f"query_file {self._query_file} cannot be read: {reason}") from None
        if strange := _strange_parameters(query):
            raise SourceUnavailable(f"{self._query_file}: {strange}")
        return query


def name_columns(columns: Sequence[str], mapped: Sequence[str]) -> list[str]:
    """Return the result's columns with the mapping's spelling; letter case does not matter.

    Args:
        columns: As the database gives them.
        mapped: The columns that the mapping reads, perhaps with a path into one.

    Raises:
        SourceUnavailable: A mapped column is missing, or stands twice; all are named.
    """
    heads: dict[str, str] = {}
    missing = []
    lowered = {column.lower() for column in columns}
    for name in mapped:
        head = name if name.lower() in lowered else name.partition(".")[0]
        if head.lower() not in lowered:
            missing.append(f'"{name}"{near_name(name, columns)}')
        elif heads.setdefault(head.lower(), head) != head:
            raise SourceUnavailable(f'"{heads[head.lower()]}" and "{head}" are one column; write it in one way')
    twice = [
        f'"{columns[places[0] - 1]}" stands at the positions {" and ".join(map(str, places))}'
        for name, places in repeated_names(columns, ignore_case=True).items()
        if name.lower() in heads
    ]
    if missing:
        raise SourceUnavailable(f"the query gives no column {', '.join(missing)}; it gives {', '.join(columns)}")
    if twice:
        raise SourceUnavailable(f"the query gives a column twice: {'; '.join(twice)}; name each with AS, or select one")
    return [heads.get(column.lower(), column) for column in columns]


def plain_value(value: object) -> object:
    """Convert a driver's values of some column types into values that the host understands."""
    if isinstance(value, datetime.timedelta):  # a TIME column, by the drivers of MySQL
        minutes, seconds = divmod(int(value.total_seconds()), 60)
        return f"{minutes // 60:02}:{minutes % 60:02}:{seconds:02}"
    if type(value).__name__ == "UUID":
        return str(value)
    return value


def look_back(
    now: datetime.datetime,
    interval_s: float,
    zone_name: str,
    session_ahead: datetime.timedelta | None = None,
    server_now: datetime.datetime | None = None,
) -> datetime.datetime:
    """Return the value of `:since`, a time in the database's zone; if the zone is unknown, the earliest possible one.

    Args:
        now: With a time zone.
        interval_s: Seconds to look back.
        zone_name: The zone of the timestamps in the database, or "".
        session_ahead: How far the session's clock is ahead of UTC now: timestamps with a zone are compared by it.
        server_now: The time by the server's clock. If this machine's clock is ahead of it, what the server has just
            dated would be missed.
    """
    now = min(now, server_now or now)
    if zone_name:
        return wall_clock_before(now, interval_s, zone_name)
    readings = [wall_clock_before(now, interval_s, zone) for zone in ("UTC", "")]
    if session_ahead is not None:
        # An hour earlier: then the clock may have been set back.
        in_session = readings[0] + session_ahead - datetime.timedelta(hours=1)
        readings.append(in_session)
    return min(readings)


def _strange_parameters(query: str) -> str:
    strange = sorted(set(_PARAMETER.findall(query)) - {"since"})
    return (
        f"query: unknown parameter :{strange[0]}; only :since is filled in (write \\: for a colon)" if strange else ""
    )
