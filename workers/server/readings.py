"""Reads the worklist and scanners' reports for the DICOM services.

Lives in the server process. In: what a service asks for, in the thread of an association. Out: rows and attributes.
Each read also tells `News` whether the database can be read.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing

from sqlalchemy import Engine

from pylantir.dicom.find.encode_responses import Row
from pylantir.mpps.model import Attributes
from pylantir.query import WorklistQuery
from pylantir.store.read.mpps import find_creator, find_instance
from pylantir.store.read.worklist import find_age_s, find_item, read_values
from pylantir.store.schema.engine import role_of
from workers.server.news import BEHIND_S, News


class Readings:
    """What the server reads.

    Args:
        engine: The database, opened for reading.
        news: Hears whether it can be read.
        may_lag: It may be read from a server that is only good for reading.
    """

    def __init__(self, engine: Engine, news: News, *, may_lag: bool) -> None:
        self._engine = engine
        self._may_lag = may_lag
        self._news = news

    def find(self, query: WorklistQuery, fields: Sequence[str]) -> Generator[Sequence[Row]]:
        """Yield the values of matching items, in batches."""
        with self._news.watched(), closing(read_values(self._engine, query, fields)) as rows:
            yield from rows

    def retrieve(self, sop_instance_uid: str) -> Attributes | None:
        """Return what has been reported of a performed procedure step."""
        with self._news.watched(), self._engine.connect() as connection:
            instance = find_instance(connection, sop_instance_uid)
        return instance.attributes if instance else None

    def creator(self, sop_instance_uid: str) -> str | None:
        """Return the AE title of the scanner that reported a performed procedure step first."""
        with self._news.watched(), self._engine.connect() as connection:
            return find_creator(connection, sop_instance_uid)

    def look(self) -> None:
        """Find out whether the database can be read."""
        with self._news.watched() as is_prepared, self._engine.connect() as connection:
            find_item(connection, 0)
            role = role_of(connection)
            age_s = find_age_s(connection) if self._may_lag or role == "standby" else 0.0
            self._news.note_role(role, is_behind=is_prepared and (age_s is None or age_s > BEHIND_S))
