"""The worklist server's process: joins the DICOM side with the database, which it can only read.

In: associations from the socket that the supervisor holds. Out: worklist items, and scanners' reports for the writer.
Starts without a database and answers failure until there is one; opens the file anew for every query, so one that was
replaced is noticed.
"""

from __future__ import annotations

import selectors
import socket
from collections.abc import Generator, Mapping
from contextlib import closing
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from pylantir.dicom.mpps import MppsPorts
from pylantir.dicom.server import WorklistServer, configure_dicom_libraries
from pylantir.errors import StoreError
from pylantir.mpps.model import Attributes
from pylantir.query import WorklistQuery
from pylantir.settings import DicomSettings, MppsSettings
from pylantir.store.engine import open_for_reading
from pylantir.store.mpps_reads import find_instance
from pylantir.store.reads import find_matching
from workers.bootstrap import Context
from workers.report_client import ReportClient

BEAT_EVERY_S = 10.0
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

    def find(query: WorklistQuery) -> Generator[Mapping[str, object]]:
        try:
            with engine.connect() as connection, closing(find_matching(connection, query)) as rows:
                yield from rows
        except SQLAlchemyError as error:
            msg = f"the worklist cannot be opened: {type(error).__name__}"
            raise StoreError(msg) from None

    def retrieve(sop_instance_uid: str) -> Attributes | None:
        try:
            with engine.connect() as connection:
                instance = find_instance(connection, sop_instance_uid)
        except SQLAlchemyError as error:
            msg = f"the database cannot be opened: {type(error).__name__}"
            raise StoreError(msg) from None
        return instance.attributes if instance else None

    spec = context.spec
    hello = {"role": spec.role, "source": None, "generation": spec.generation, "token": spec.token}
    reports = ReportClient(Path(queue_address), hello, mpps.timeout_s)
    server = WorklistServer(listener, settings, find, MppsPorts(report=reports.report, retrieve=retrieve))
    with selectors.DefaultSelector() as selector:
        selector.register(server, selectors.EVENT_READ, server.accept_pending)
        selector.register(context.stop, selectors.EVENT_READ, context.stop.drain)
        selector.register(context.channel, selectors.EVENT_READ, context.channel.receive)
        context.channel.ready()
        while not (context.stop.is_set or context.channel.supervisor_gone):
            context.channel.beat(HANG_AFTER_S, at_most_every_s=BEAT_EVERY_S)
            pause_s = server.pause_s()
            for key, _ in selector.select(BEAT_EVERY_S if pause_s is None else min(pause_s, BEAT_EVERY_S)):
                key.data()
            server.accept_pending()
    server.stop(ASSOCIATIONS_MAY_END_S)
    reports.close()
    engine.dispose()
