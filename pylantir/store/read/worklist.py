"""Finds the items that a query matches.

Lives in the server process and in the commands that show the worklist. In: a connection and a `WorklistQuery`; out:
rows of `worklist_items`. The database selects by its indexes. Where SQL cannot compare exactly (letter case of every
script, components of names), it returns too many rows, and `pylantir.query` decides. Nothing here writes.
"""

from __future__ import annotations

import marshal
import re
import sys
import zlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    CursorResult,
    Engine,
    LargeBinary,
    Select,
    and_,
    cast,
    false,
    func,
    or_,
    select,
    text,
    union_all,
)
from sqlalchemy.exc import SQLAlchemyError

from pylantir.entry import RECORD_FIELDS, WORKLIST_FIELDS
from pylantir.errors import StoreError
from pylantir.query import PERSON_NAME_FIELDS, WorklistQuery, fold_name, pattern_test
from pylantir.store.failures import describe_error
from pylantir.store.read.study_uids import has_study_uid
from pylantir.store.schema.tables import SPECIAL_NAME, SPECIAL_NAME_POSTGRESQL, lower_ascii, worklist_items

ROWS_PER_FETCH = 500
_PLAIN_BATCHES = 4
SERVED_FIELDS = ("id", "data_source", *RECORD_FIELDS)
_COLUMNS = worklist_items.columns


def find_values(
    connection: Connection, query: WorklistQuery, fields: Sequence[str]
) -> Generator[Sequence[Sequence[Any]]]:
    """Yield values of the items that a query matches, by start date, start time and id.

    Rows are streamed: close the iterator (or exhaust it) to end the read.

    Args:
        connection: Open for reading; the caller ends its transaction.
        query: What the item must meet; see `pylantir.query.item_matches` for what that means.
        fields: Of `SERVED_FIELDS`.

    Yields:
        Batches of rows: the values of the fields as stored, None where unknown.

    Raises:
        StoreError: The database cannot be read just now, or a field is no worklist field.
    """
    statement, keep = _prepare(query, fields, connection.dialect.name)
    with _telling(), _read(connection, statement) as result:
        for rows in result.partitions(ROWS_PER_FETCH):
            if matching := keep(rows):
                yield matching


def read_values(engine: Engine, query: WorklistQuery, fields: Sequence[str]) -> Generator[Sequence[Sequence[Any]]]:
    """Yield what `find_values` finds, for a reader that may take its time, such as a scanner.

    A PostgreSQL server is not kept waiting: the transaction is over, and its connection free for others, before the
    first row is given. What does not fit into the first answers is kept in little memory.

    Args:
        engine: The database, opened for reading.
        query: As for `find_values`, likewise the fields and the errors.
        fields: Of `SERVED_FIELDS`.
    """
    if engine.dialect.name == "sqlite":
        with engine.connect() as connection, closing(find_values(connection, query, fields)) as batches:
            yield from batches
        return
    statement, keep = _prepare(query, fields, engine.dialect.name)
    with _telling(), engine.connect() as connection:
        # The driver has all rows by now, in little more room than the server sent them in.
        cursor: Any = _read(connection, statement).cursor
    first: list[Sequence[Sequence[Any]]] = []
    later: list[bytes] = []
    with closing(cursor):
        while rows := cursor.fetchmany(ROWS_PER_FETCH):
            if len(first) < _PLAIN_BATCHES:
                first.append(keep(rows))
            else:
                later.append(zlib.compress(marshal.dumps(list(keep(rows))), 1))
    yield from filter(None, first)
    for packed in later:
        if rows := marshal.loads(zlib.decompress(packed)):  # noqa: S302 - we have written it ourselves
            yield rows


def _prepare(
    query: WorklistQuery, fields: Sequence[str], dialect: str
) -> tuple[Select[Any], Callable[[Sequence[Sequence[Any]]], Sequence[Sequence[Any]]]]:
    """Return the statement, and what keeps the rows that really match, without the columns that only tell that."""
    # If an item without a value also meets the condition, SQL is exact: an AE title is not a person's name.
    tests = [(name, pattern_test(name, pattern)) for name, pattern in query.like.items()]
    columns = [_served_column(name) for name in fields] + [_column(name) for name, _ in tests]
    width = len(fields)

    def keep(rows: Sequence[Sequence[Any]]) -> Sequence[Sequence[Any]]:
        return [row[:width] for row in rows if _passes(row[width:], tests)] if tests else rows

    return _statement(query, columns, dialect=dialect), keep


def _read(connection: Connection, statement: Select[Any]) -> CursorResult[Any]:
    """Begin to read: SQLite gives rows as they are asked for; PostgreSQL sends all at once, in one round trip."""
    options = {"yield_per": ROWS_PER_FETCH} if connection.dialect.name == "sqlite" else {}
    return connection.execute(statement, execution_options=options)


_READ_AGE = text("SELECT EXTRACT(EPOCH FROM clock_timestamp())::double precision - MAX(alive_at) FROM cluster_hosts")


@contextmanager
def _telling() -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        raise StoreError(f"the worklist cannot be read: {describe_error(error)}") from None


def find_matching(
    connection: Connection, query: WorklistQuery, *, limit: int | None = None
) -> Generator[Mapping[str, object]]:
    """Yield the items that a query matches one by one, with everything: `SERVED_FIELDS` -> value.

    Args:
        connection: As for `find_values`, whose order and errors are those of this function.
        query: What the item must meet.
        limit: At most so many items.
    """
    with closing(find_values(connection, query, SERVED_FIELDS)) as batches:
        items = (dict(zip(SERVED_FIELDS, row, strict=True)) for rows in batches for row in rows)
        yield from islice(items, limit)


def find_item(connection: Connection, item_id: int) -> Mapping[str, object] | None:
    """Look up one item, whatever its status, with the columns that `find_matching` gives.

    Raises:
        StoreError: The database cannot be read just now.
    """
    try:
        statement = select(*(_COLUMNS[name] for name in SERVED_FIELDS)).where(_COLUMNS.id == item_id)
        row = connection.execute(statement).mappings().first()
    except SQLAlchemyError as error:
        raise StoreError(f"the worklist cannot be read: {describe_error(error)}") from None
    return None if row is None else dict(row)


def find_age_s(connection: Connection) -> float | None:
    """Return for how long no host has given a sign of life in this PostgreSQL database; None: no host runs with it."""
    age_s: float | None = connection.scalar(_READ_AGE)
    return age_s


def _passes(values: Sequence[Any], tests: Sequence[tuple[str, Callable[[str], bool]]]) -> bool:
    return all(not value or test(value) for value, (_, test) in zip(values, tests, strict=True))


def _statement(query: WorklistQuery, columns: Sequence[Column[Any]], *, dialect: str) -> Select[Any]:
    start_date, start_time = _COLUMNS.scheduled_start_date, _COLUMNS.scheduled_start_time
    conditions = [
        has_study_uid(accepted) if name == "study_instance_uid" else _any_of(_column(name), accepted)
        for name, accepted in query.equal.items()
    ]
    for name, accepted in query.equal_or_unknown.items():
        column = _column(name)
        conditions.append(or_(column.is_(None), column.in_(["", *accepted])))
    for name, pattern in query.like.items():
        similar = _superset(_column(name), pattern, dialect)
        is_open = name in query.unknown_like
        conditions.append(or_(similar, _column(name).is_(None), _column(name) == "") if is_open else similar)
    for name, bounds in query.ranges.items():
        conditions.append(_within(_column(name), *bounds))
    if query.period is not None:
        low, high = query.period
        conditions += [
            # The date alone as well, because the index can use it.
            _within(start_date, low and low[:8], high and high[:8]),
            _within(start_time, None, None),
            _within(start_date.concat(start_time), low, high),
        ]
    return select(*columns).where(*conditions).order_by(start_date, start_time, _COLUMNS.id)


def _served_column(name: str) -> Column[Any]:
    return _COLUMNS[name] if name in SERVED_FIELDS else _column(name)


def _column(name: str) -> Column[Any]:
    if name not in WORKLIST_FIELDS:
        raise StoreError(f"{name}: not a worklist field")
    return _COLUMNS[name]


def _any_of(column: Column[Any], accepted: tuple[str, ...]) -> ColumnElement[bool]:
    values = [value for value in accepted if value]
    if not values:
        return false()
    return column == values[0] if len(values) == 1 else column.in_(values)


def _within(column: ColumnElement[Any], low: str | None, high: str | None) -> ColumnElement[bool]:
    bounds = [column != ""]
    if low is not None:
        bounds.append(column >= low)
    if high is not None:
        bounds.append(column <= high)
    return and_(*bounds)


def _superset(column: Column[Any], pattern: str, dialect: str) -> ColumnElement[bool]:
    """Return SQL for a `like` condition that is true wherever the exact test is true, and rarely elsewhere."""
    if column.name not in PERSON_NAME_FIELDS:
        return and_(column != "", column.like(_like(pattern), escape="\\"))
    alphabetic = fold_name(pattern).split("=")[0]
    prefix = re.split(r"[*?]", alphabetic.rstrip("^*"))[0]
    narrowed_to = [_by_prefix(prefix, dialect)] if column.name == "patient_name" and prefix else []
    # The first group alone: a name of one group has nothing for the others, and those of several are let
    # through.
    length_bytes = func.length(cast(column, LargeBinary)) if dialect == "sqlite" else func.octet_length(column)
    # LIKE of SQLite ignores the case of ASCII letters by itself, four times faster than `lower`.
    folded: ColumnElement[Any] = column if dialect == "sqlite" else lower_ascii(column)
    return and_(
        column != "",
        *narrowed_to,
        or_(
            # Either side may end in empty components that the other leaves out.
            folded.like(_like(alphabetic.rstrip("^*") + "*"), escape="\\"),
            # SQL cannot compare letter case in other scripts.
            length_bytes != func.length(column),
            column.contains("="),
        ),
    )


def _by_prefix(prefix: str, dialect: str) -> ColumnElement[bool]:
    """Select the items whose patient's name begins so, or cannot be compared in SQL; each kind has its own index."""
    name = lower_ascii(_COLUMNS.patient_name)
    if dialect == "sqlite":
        beginning = and_(name >= prefix, name < prefix + chr(sys.maxunicode))
        special = text(SPECIAL_NAME)
    else:
        beginning, special = name.like(_like(prefix + "*"), escape="\\"), text(SPECIAL_NAME_POSTGRESQL)
    return _COLUMNS.id.in_(union_all(select(_COLUMNS.id).where(beginning), select(_COLUMNS.id).where(special)))


def _like(pattern: str) -> str:
    escaped = pattern.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return escaped.replace("*", "%").replace("?", "_")
