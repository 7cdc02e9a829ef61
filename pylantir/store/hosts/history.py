"""Notices that the database has lost commits: a fail-over, a restored backup, another file under the same name.

Lives in the writer, which remembers of each source what it has committed: records, passages, the cycle under way. With
each commit of a source a new random mark goes into the source's row; a transaction begins by comparing it.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from sqlalchemy import Connection, bindparam, select

from pylantir.errors import HistoryLost
from pylantir.store.schema.bulk import ask_statement
from pylantir.store.schema.tables import source_states

_READ_MARK = select(source_states.c.mark).where(source_states.c.data_source == bindparam("source"))


class History:
    """What the writer knows of one source's last commit.

    Args:
        source: The source's name.
        mark: The mark in the database when the writer's memory began.
    """

    def __init__(self, source: str, mark: str | None) -> None:
        self._source = source
        # Nobody can tell whether a commit that has failed was carried out all the same.
        self._possible = {mark}
        self._next: str | None = None

    def ask(self, connection: Connection) -> Callable[[], None]:
        """Ask whether the database has what was committed last, first in a transaction; return what makes sure.

        Raises:
            HistoryLost: When the answer is read: it has not.
        """
        rows = ask_statement(connection, _READ_MARK, {"source": self._source})

        def check() -> None:
            mark = next((mark for (mark,) in rows), None)
            if mark not in self._possible:
                raise HistoryLost(self._source)

        return check

    def next_mark(self) -> str:
        """Return the mark for the present transaction, to be written into the source's row."""
        self._next = os.urandom(8).hex()
        self._possible.add(self._next)
        return self._next

    def note_commit(self) -> None:
        """Note that the present transaction is committed."""
        if self._next is not None:
            self._possible, self._next = {self._next}, None
