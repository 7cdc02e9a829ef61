"""Answers the web application's requests from the database and the supervisor.

Lives in the web process; called from its worker threads. The database is only read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from pylantir.errors import StoreError
from pylantir.ipc.control import ask_supervisor
from pylantir.mpps.model import Attributes, MppsAnswer, MppsRequest
from pylantir.query import WorklistQuery
from pylantir.store.read.conflicts import count_conflicts, find_conflicts
from pylantir.store.read.listings import find_audited, find_claims, find_rejected, find_statements
from pylantir.store.read.mpps import find_creator, find_instance
from pylantir.store.read.worklist import SERVED_FIELDS, find_item, read_values
from pylantir.web.ports import Item, Ports, Row
from pylantir.web.shown import Shown
from workers.child.accesses import AccessBuffer

MOST_CONFLICTS = 1000
"""How many open differences and refused records the pages look at; the commands list them all."""
_STATUS_TIMEOUT_S = 3.0


class Readings:
    """What the pages and DICOMweb read.

    Args:
        engine: Opened for reading.
        runtime_dir: Where the supervisor's control socket is.
        accesses: Takes what was shown to whom.
    """

    def __init__(self, engine: Engine, runtime_dir: Path, accesses: AccessBuffer) -> None:
        self._engine = engine
        self._runtime_dir = runtime_dir
        self._accesses = accesses

    def values(self, query: WorklistQuery, fields: Sequence[str]) -> Generator[Sequence[Row]]:
        """Yield the fields of the matching items, in batches."""
        with _readable(), closing(read_values(self._engine, query, fields)) as batches:
            yield from batches

    def items(self, query: WorklistQuery) -> Iterable[Item]:
        """Yield the matching items."""
        with closing(self.values(query, SERVED_FIELDS)) as batches:
            for rows in batches:
                yield from (dict(zip(SERVED_FIELDS, row, strict=True)) for row in rows)

    def item(self, number: int) -> Item | None:
        """Return an item, whatever its status."""
        with self._reading() as connection:
            return find_item(connection, number)

    def givers(self, numbers: Sequence[int]) -> Mapping[Any, Collection[str]]:
        """Return the sources that give each of some items."""
        with self._reading() as connection:
            claims = find_claims(connection, numbers)
        return {number: {claim["data_source"] for claim in rows} for number, rows in claims.items()}

    def statements(self, number: int) -> Sequence[Mapping[str, Any]]:
        """Return what each source says about an item."""
        with self._reading() as connection:
            return find_statements(connection, number)

    def history(self, number: int) -> Sequence[Mapping[str, Any]]:
        """Return the lines of the audit log about an item."""
        with self._reading() as connection:
            return list(find_audited(connection, item_id=number))

    def conflicts(self) -> Sequence[Mapping[str, Any]]:
        """Return what the sources do not agree about."""
        with self._reading() as connection:
            return list(islice(find_conflicts(connection), MOST_CONFLICTS))

    def rejected(self) -> Sequence[Mapping[str, Any]]:
        """Return the refused records."""
        with self._reading() as connection:
            return list(islice(find_rejected(connection), MOST_CONFLICTS))

    def conflict_counts(self) -> tuple[int, Mapping[str, int]]:
        """Count both."""
        with self._reading() as connection:
            return count_conflicts(connection)

    def retrieve(self, sop_instance_uid: str) -> tuple[Attributes, Sequence[int]] | None:
        """Return a performed procedure step and its items."""
        with self._reading() as connection:
            instance = find_instance(connection, sop_instance_uid)
        return (instance.attributes, instance.item_ids) if instance else None

    def creator(self, sop_instance_uid: str) -> str | None:
        """Return the AE title that created a performed procedure step."""
        with self._reading() as connection:
            return find_creator(connection, sop_instance_uid)

    def status(self) -> Mapping[str, Any]:
        """Ask the supervisor for the state of the processes."""
        return ask_supervisor(self._runtime_dir, {"command": "status"}, _STATUS_TIMEOUT_S)

    def scanners(self) -> Mapping[str, Any]:
        """Ask the server, through the supervisor, which scanner asked last, and which was refused."""
        answer = ask_supervisor(self._runtime_dir, {"command": "scanners"}, _STATUS_TIMEOUT_S)
        told = json.loads(str(answer.get("text", "{}")))
        return told if isinstance(told, dict) else {}

    def note_shown(self, shown: Shown) -> None:
        """Pass on for the access log what was shown."""
        self._accesses.note(
            shown.service, address=shown.address or None, peer=shown.user, asked=[shown.asked],
            status=str(shown.status), matches=len(shown.items), item_ids=shown.items,
        )  # fmt: skip

    def note_refused_login(self, address: str, user: str | None) -> None:
        """Pass on for the audit messages who was refused."""
        self._accesses.alert("login", address=address or None, peer=user, text="wrong user, password or token")

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with _readable(), self._engine.connect() as connection:
            yield connection


@contextmanager
def _readable() -> Iterator[None]:
    """Say in our words that the database cannot be read; the driver's may quote values."""
    try:
        yield
    except SQLAlchemyError as error:
        msg = f"the worklist cannot be read ({type(error).__name__})"
        raise StoreError(msg) from None


def make_ports(readings: Readings, report: Callable[[MppsRequest], MppsAnswer], *, own_only: bool) -> Ports:
    """Connect the application with the database, the supervisor and the writer.

    Args:
        readings: Reads the database and asks the supervisor.
        report: Sends a report to the writer.
        own_only: Only who created a performed procedure step may use it.
    """
    return Ports(
        find_values=readings.values,
        find_items=readings.items,
        find_item=readings.item,
        find_givers=readings.givers,
        find_statements=readings.statements,
        find_history=readings.history,
        find_conflicts=readings.conflicts,
        find_rejected=readings.rejected,
        count_conflicts=readings.conflict_counts,
        report=report,
        retrieve=readings.retrieve,
        status=readings.status,
        find_scanners=readings.scanners,
        find_creator=readings.creator if own_only else None,
        note_shown=readings.note_shown,
        note_refused_login=readings.note_refused_login,
    )
