"""The worklist server's process: joins the DICOM side with the database, which it can only read.

In: associations from the socket that the supervisor holds. Out: worklist items, and scanners' reports for the writer.
Starts without a database and answers failure until there is one; a file that was replaced is noticed at the next
query.
"""

from __future__ import annotations

import selectors
import socket
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from pylantir.dicom.find.answers import QueryService
from pylantir.dicom.find.encode_responses import Row
from pylantir.dicom.mpps.service import MppsPorts, MppsService
from pylantir.dicom.net.acceptor import DicomServer
from pylantir.dicom.net.bridge import configure_dicom_libraries
from pylantir.dicom.net.services import Services
from pylantir.errors import StoreError
from pylantir.mpps.model import Attributes
from pylantir.query import WorklistQuery
from pylantir.settings import DicomSettings, MppsSettings
from pylantir.store.read.mpps import find_instance
from pylantir.store.read.worklist import find_item, find_values
from pylantir.store.schema.engine import open_for_reading
from workers.child.bootstrap import Context
from workers.child.channel import Channel
from workers.server.report_client import ReportClient

BEAT_EVERY_S = 10.0
LOOK_AGAIN_EVERY_S = 1.0
"""How soon a database that could not be read is tried again, with or without a scanner's question."""
HANG_AFTER_S = 60.0
ASSOCIATIONS_MAY_END_S = 2.0


def run(
    context: Context,
    settings: DicomSettings,
    mpps: MppsSettings,
    db_url: str,
    queue_address: str,
    listener: socket.socket,
) -> None:
    """The body of the server process; returns when it was told to stop and the associations have ended."""
    configure_dicom_libraries()
    engine = open_for_reading(db_url)

    health = _DatabaseHealth()

    def find(query: WorklistQuery, fields: Sequence[str]) -> Generator[Sequence[Row]]:
        with health.watched(), engine.connect() as connection, closing(find_values(connection, query, fields)) as rows:
            yield from rows

    def retrieve(sop_instance_uid: str) -> Attributes | None:
        with health.watched(), engine.connect() as connection:
            instance = find_instance(connection, sop_instance_uid)
        return instance.attributes if instance else None

    def look_again() -> None:
        with suppress(StoreError), health.watched(), engine.connect() as connection:
            find_item(connection, 0)

    spec = context.spec
    hello = {"role": spec.role, "source": None, "generation": spec.generation, "token": spec.token}
    reports = ReportClient(Path(queue_address), hello, mpps.timeout_s)
    services = Services(
        query=QueryService(settings, find).answer,
        report=MppsService(MppsPorts(report=reports.report, retrieve=retrieve)).answer,
    )
    server = DicomServer(listener, settings, services)
    with selectors.DefaultSelector() as selector:
        selector.register(server, selectors.EVENT_READ, server.accept_pending)
        selector.register(context.stop, selectors.EVENT_READ, context.stop.drain)
        selector.register(context.channel, selectors.EVENT_READ, context.channel.receive)
        selector.register(health, selectors.EVENT_READ, lambda: health.tell(context.channel))
        context.channel.ready()
        while not (context.stop.is_set or context.channel.supervisor_gone):
            context.channel.beat(HANG_AFTER_S, at_most_every_s=BEAT_EVERY_S)
            pauses = [server.pause_s(), LOOK_AGAIN_EVERY_S if health.trouble else None]
            for key, _ in selector.select(min([BEAT_EVERY_S, *(pause for pause in pauses if pause is not None)])):
                key.data()
            server.accept_pending()
            if health.trouble:
                look_again()
    server.stop(ASSOCIATIONS_MAY_END_S)
    reports.close()
    engine.dispose()


class _DatabaseHealth:
    """Whether the worklist could be read the last time, for `status`: noted by threads, told by the loop."""

    def __init__(self) -> None:
        self.trouble: str | None = None
        self._news, self._bell = socket.socketpair()
        self._news.setblocking(False)
        self._bell.setblocking(False)

    def fileno(self) -> int:
        """The descriptor for a selector: readable when there is something to tell."""
        return self._news.fileno()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Notice whether a read succeeds; a failure becomes a StoreError, which quotes no values."""
        try:
            yield
        except (SQLAlchemyError, StoreError) as error:
            reason = str(error) if isinstance(error, StoreError) else f"it cannot be read ({type(error).__name__})"
            self._note(f"the worklist is not served: {reason}")
            if isinstance(error, StoreError):
                raise
            msg = f"the worklist: {reason}"
            raise StoreError(msg) from None
        else:
            self._note(None)

    def tell(self, channel: Channel) -> None:
        """Report the last news to the supervisor."""
        with suppress(BlockingIOError):
            while self._news.recv(512):
                pass
        channel.report({"database": self.trouble})

    def _note(self, trouble: str | None) -> None:
        if trouble != self.trouble:
            self.trouble = trouble
            with suppress(BlockingIOError):
                self._bell.send(b"!")
