"""Stores who was shown which items, in the table `access_log`. Lives in the writer.

The same question with the same answer from the same peer is counted in one row while it comes again within an hour, for
a day at most: scanners that ask every minute would otherwise fill the database. A frame that comes twice, because its
acknowledgement was lost, changes nothing: its moments are not later than the row's last one.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, Engine, insert, select, update

from pylantir.ipc.accesses import Access
from pylantir.store.schema.tables import access_log

AGAIN_WITHIN_US = 3600 * 1_000_000
ROW_LASTS_US = 24 * 3600 * 1_000_000
REMEMBERED_ROWS = 10_000
"""How many of the latest rows may be continued."""
_LOG = access_log.c
_SAME = ("service", "address", "peer", "certificate", "asked", "status", "matches", "item_ids")
"""The columns that are equal where question, answer and peer are the same."""


@dataclass(slots=True)
class OpenRow:
    """A row that may be continued; its moments in microseconds since 1970."""

    number: int
    at: int
    last_at: int

    def continues_at(self, moment: int) -> bool:
        """Whether the same answer at this moment is counted in this row."""
        return self.at <= moment < self.at + ROW_LASTS_US and moment - self.last_at <= AGAIN_WITHIN_US


class AccessLog:
    """The table, and the rows that may be continued.

    Args:
        engine: The database, opened for writing.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._open: OrderedDict[bytes, OpenRow] | None = None

    def store(self, accesses: Sequence[Access]) -> None:
        """Store answers in one transaction.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: Nothing was stored.
        """
        if not accesses:
            return
        try:
            with self._engine.begin() as connection:
                if self._open is None:
                    self._open = _read_open_rows(connection, min(access.moments[0] for access in accesses))
                for values, moments in _gathered(accesses):
                    self._store(connection, self._open, values, moments)
        except BaseException:
            # What is in memory may be ahead of the database now.
            self._open = None
            raise

    def _store(
        self,
        connection: Connection,
        rows: OrderedDict[bytes, OpenRow],
        values: Mapping[str, object],
        moments: Sequence[int],
    ) -> None:
        key = _digest([values[name] for name in _SAME])
        row = rows.get(key)
        for group in in_rows(moments, row):
            if row is not None and row.continues_at(group[0]) and _continue(connection, row, group, values):
                row.last_at = group[-1]
            else:
                row = _begin(connection, group, values)
        if row is not None:
            rows[key] = row
            rows.move_to_end(key)
            if len(rows) > REMEMBERED_ROWS:
                rows.popitem(last=False)


def _gathered(accesses: Sequence[Access]) -> Iterator[tuple[dict[str, object], list[int]]]:
    """Gather the moments of the same answer."""
    gathered: dict[tuple[object, ...], list[int]] = {}
    for access in accesses:
        values = {name: getattr(access, name) for name in _SAME}
        values["item_ids"] = json.dumps(access.item_ids, separators=(",", ":"))
        gathered.setdefault(tuple(values[name] for name in _SAME), []).extend(access.moments)
    for key, moments in gathered.items():
        yield dict(zip(_SAME, key, strict=True)), sorted(moments)


def in_rows(moments: Sequence[int], row: OpenRow | None) -> list[list[int]]:
    """Divide the moments of one answer into those of one row each.

    Args:
        moments: Ascending, in microseconds since 1970.
        row: The latest row of the same answer, which the first group continues if it may.

    Returns:
        The groups; moments that the row has counted are left out.
    """
    groups: list[list[int]] = []
    for moment in moments:
        if row is not None and row.at <= moment <= row.last_at:
            continue
        if row is None or not row.continues_at(moment):
            groups.append([moment])
            row = OpenRow(0, moment, moment)
            continue
        if not groups:
            groups.append([])
        groups[-1].append(moment)
        row = OpenRow(0, row.at, moment)
    return groups


def _continue(connection: Connection, row: OpenRow, moments: Sequence[int], values: Mapping[str, object]) -> bool:
    """Count an answer in its row; return whether the row still is as it was.

    It may have been deleted or changed meanwhile, and its number may be another row's by now.
    """
    this = (_LOG.id == row.number, _LOG.at == _written(row.at), _LOG.item_ids == values["item_ids"])
    counted = {"count": _LOG["count"] + len(moments), "last_at": _written(moments[-1])}
    return bool(connection.execute(update(access_log).where(*this).values(counted)).rowcount)


def _begin(connection: Connection, moments: Sequence[int], values: Mapping[str, object]) -> OpenRow:
    first, last = moments[0], moments[-1]
    row = {"at": _written(first), "last_at": _written(last), "count": len(moments), **values}
    number = connection.execute(insert(access_log).returning(_LOG.id), row).scalar_one()
    return OpenRow(number, first, last)


def _read_open_rows(connection: Connection, moment: int) -> OrderedDict[bytes, OpenRow]:
    """Read the rows that may be continued at a moment, the latest at the end."""
    columns = [_LOG[name] for name in _SAME]
    statement = select(_LOG.id, _LOG.at, _LOG.last_at, *columns).order_by(_LOG.id.desc()).limit(REMEMBERED_ROWS)
    rows: OrderedDict[bytes, OpenRow] = OrderedDict()
    for number, at, last_at, *same in connection.execute(statement, execution_options={"yield_per": 100}):
        row = OpenRow(number, _read(at), _read(last_at))
        if moment - row.at >= ROW_LASTS_US:
            break
        # The same answer may have an older row, which is not continued.
        key = _digest(same)
        if key not in rows:
            rows[key] = row
            rows.move_to_end(key, last=False)
    return rows


def _digest(same: Sequence[object]) -> bytes:
    return hashlib.blake2b(json.dumps(same).encode(), digest_size=16).digest()


def _written(moment: int) -> str:
    return datetime.fromtimestamp(moment / 1_000_000, UTC).isoformat(timespec="microseconds")


def _read(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1_000_000)
