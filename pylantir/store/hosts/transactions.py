"""Begins the transactions in which the writer stores one source. Lives in the writer.

Another host may have taken the source over, or the database may have lost commits, while this writer waited. So each
transaction first makes sure of the lease (`leases`) and of the last commit (`history`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from sqlalchemy import Connection, Engine

from pylantir.store.hosts.history import History
from pylantir.store.hosts.leases import Tenure
from pylantir.store.schema.engine import transaction

T = TypeVar("T")


class SourceTransactions:
    """Begins one source's transactions.

    Args:
        engine: The database, opened for writing.
        source: The source's name.
        mark: The mark in the source's row when the writer's memory began.
        tenure: This host's right to fetch the source; None where no other host can.
    """

    def __init__(self, engine: Engine, source: str, mark: str | None, tenure: Tenure | None) -> None:
        self._engine = engine
        self._history = History(source, mark)
        self._tenure = tenure

    @contextmanager
    def begin(
        self, ask: Callable[[Connection], T] | None = None, *, dry_run: bool = False, durable: bool = False
    ) -> Iterator[tuple[Connection, T | None]]:
        """Begin a transaction; whoever writes in it writes `next_mark` into the source's row.

        Args:
            ask: What the caller asks together with lease and mark; the answer is given with the connection.
            dry_run: Roll everything back.
            durable: As `engine.transaction`.

        Raises:
            LeaseLost: Another host has taken the source over. Nothing has changed.
            HistoryLost: The database does not have what was committed before. Nothing has changed.
        """
        with transaction(self._engine, dry_run=dry_run, pipelined=True, durable=durable) as connection:
            checks = [one.ask(connection) for one in (self._tenure, self._history) if one]
            asked = ask(connection) if ask else None
            for check in checks:
                check()
            yield connection, asked
            if self._tenure:
                self._tenure.renew(connection)
        if not dry_run:
            self._history.note_commit()

    def next_mark(self) -> str:
        """Return the mark that the present transaction leaves in the source's row."""
        return self._history.next_mark()
