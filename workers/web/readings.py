"""Answers the web application's requests from the database and the supervisor.

Lives in the web process; called from its worker threads. The database is only read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
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
from pylantir.store.read.listings import find_audited, find_rejected, find_statements
from pylantir.store.read.mpps import find_creator, find_instance
from pylantir.store.read.worklist import SERVED_FIELDS, find_item, read_values
from pylantir.web.ports import Item, Ports, Row
from pylantir.web.shown import Shown
from workers.child.accesses import AccessBuffer

MOST_CONFLICTS = 1000
"""How many open differences and refused records the pages look at; the commands list them all."""
_STATUS_TIMEOUT_S = 3.0


def make_ports(
    engine: Engine,
    runtime_dir: Path,
    report: Callable[[MppsRequest], MppsAnswer],
    accesses: AccessBuffer,
    *,
    own_only: bool,
) -> Ports:
    """Connect the application with the database, the supervisor and the writer.

    Args:
        engine: Opened for reading.
        runtime_dir: Where the supervisor's control socket is.
        report: Sends a report to the writer.
        accesses: Takes what was shown to whom.
        own_only: Only who created a performed procedure step may use it.
    """

    @contextmanager
    def readable() -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            msg = f"the worklist cannot be read ({type(error).__name__})"
            raise StoreError(msg) from None

    @contextmanager
    def reading() -> Iterator[Connection]:
        with readable(), engine.connect() as connection:
            yield connection

    def values(query: WorklistQuery, fields: Sequence[str]) -> Generator[Sequence[Row]]:
        with readable(), closing(read_values(engine, query, fields)) as batches:
            yield from batches

    def items(query: WorklistQuery) -> Iterable[Item]:
        with closing(values(query, SERVED_FIELDS)) as batches:
            for rows in batches:
                yield from (dict(zip(SERVED_FIELDS, row, strict=True)) for row in rows)

    def item(number: int) -> Item | None:
        with reading() as connection:
            return find_item(connection, number)

    def statements(number: int) -> Sequence[Mapping[str, Any]]:
        with reading() as connection:
            return find_statements(connection, number)

    def history(number: int) -> Sequence[Mapping[str, Any]]:
        with reading() as connection:
            return list(find_audited(connection, item_id=number))

    def conflicts() -> Sequence[Mapping[str, Any]]:
        with reading() as connection:
            return list(islice(find_conflicts(connection), MOST_CONFLICTS))

    def rejected() -> Sequence[Mapping[str, Any]]:
        with reading() as connection:
            return list(islice(find_rejected(connection), MOST_CONFLICTS))

    def conflict_counts() -> tuple[int, Mapping[str, int]]:
        with reading() as connection:
            return count_conflicts(connection)

    def retrieve(sop_instance_uid: str) -> tuple[Attributes, Sequence[int]] | None:
        with reading() as connection:
            instance = find_instance(connection, sop_instance_uid)
        return (instance.attributes, instance.item_ids) if instance else None

    def creator(sop_instance_uid: str) -> str | None:
        with reading() as connection:
            return find_creator(connection, sop_instance_uid)

    def status() -> Mapping[str, Any]:
        return ask_supervisor(runtime_dir, {"command": "status"}, _STATUS_TIMEOUT_S)

    def last_queries() -> Mapping[str, Mapping[str, Any]]:
        answer = ask_supervisor(runtime_dir, {"command": "last-queries"}, _STATUS_TIMEOUT_S)
        queries = json.loads(str(answer.get("text", "{}")))
        return queries if isinstance(queries, dict) else {}

    def note_shown(shown: Shown) -> None:
        accesses.note(
            shown.service, address=shown.address or None, peer=shown.user, asked=[shown.asked],
            status=str(shown.status), matches=len(shown.items), item_ids=shown.items,
        )  # fmt: skip

    def note_refused_login(address: str, user: str | None) -> None:
        accesses.alert("login", address=address or None, peer=user, text="wrong user, password or token")

    return Ports(
        find_values=values, find_items=items, find_item=item, find_statements=statements, find_history=history,
        find_conflicts=conflicts, find_rejected=rejected, count_conflicts=conflict_counts,
        report=report, retrieve=retrieve, status=status, last_queries=last_queries,
        find_creator=creator if own_only else None, note_shown=note_shown, note_refused_login=note_refused_login,
    )  # fmt: skip
