"""The worklist server's process: connects the DICOM side with the database, which it can only read.

In: associations from the socket that the supervisor holds. Out: worklist items, and scanners' reports for the writer.
It starts even without a database and answers failure until one exists; it notices a replaced file at the next query.
"""

from __future__ import annotations

import datetime
import json
import selectors
import socket
from functools import partial
from pathlib import Path

from pylantir.dicom.find.answers import QueryService
from pylantir.dicom.mpps.service import MppsPorts, MppsService
from pylantir.dicom.net.acceptor import DicomServer
from pylantir.dicom.net.bridge import configure_dicom_libraries
from pylantir.dicom.net.refusals import Peer, Reason
from pylantir.ipc.tally import Tally
from pylantir.settings import AccessSettings, DatabaseSettings, DicomSettings, MppsSettings
from pylantir.store.schema.engine import open_for_reading
from workers.child.accesses import AccessBuffer
from workers.child.bootstrap import Context
from workers.child.channel import Channel
from workers.child.report_client import ReportClient
from workers.server.counting import counting
from workers.server.database_watch import DatabaseWatch
from workers.server.last_queries import LastQueries
from workers.server.last_refusals import LastRefusals
from workers.server.news import News
from workers.server.readings import Readings
from workers.server.shown import Shown

BEAT_EVERY_S = 5.0
HANG_AFTER_S = 60.0
ASSOCIATIONS_MAY_END_S = 2.0


def run(
    context: Context,
    settings: DicomSettings,
    mpps: MppsSettings,
    access: AccessSettings,
    database: DatabaseSettings,
    queue_address: str,
    listener: socket.socket,
) -> None:
    """Run the server process; return after an order to stop, when the associations have ended."""
    configure_dicom_libraries()
    engine = open_for_reading(database.url, read_url=database.read_url, host=database.host, process="mwl-scp")
    news = News()
    readings = Readings(engine, news, may_lag=database.read_url is not None)
    spec = context.spec
    hello = {"role": spec.role, "source": None, "generation": spec.generation, "token": spec.token}
    accesses = AccessBuffer(access)
    reports = ReportClient(Path(queue_address), hello, mpps.timeout_s, accesses=accesses)
    tally = Tally({*settings.allowed_aet, *settings.profiles})
    shown = Shown(accesses)
    last_queries = LastQueries(QueryService(settings, readings.find, on_answer=shown.note_query).answer, tally)
    creator = readings.creator if mpps.own_only else None
    ports = MppsPorts(report=reports.report, retrieve=readings.retrieve, creator=creator)
    services = counting(last_queries.answer, shown.noting(MppsService(ports).answer), tally, news.ring)
    last_refusals = LastRefusals()

    def note_refusal(reason: Reason, peer: Peer, text: str) -> None:
        last_refusals.note(reason, peer, text)
        news.ring()

    server = DicomServer(listener, settings, services, on_refusal=note_refusal, on_told=shown.note_refusal)

    watch = DatabaseWatch(readings.look, lambda: news.trouble is not None)
    watch.start()
    with selectors.DefaultSelector() as selector:
        selector.register(server, selectors.EVENT_READ, server.accept_pending)
        selector.register(context.stop, selectors.EVENT_READ, context.stop.drain)
        obey = partial(_obey, context.channel, last_queries, last_refusals, news)
        selector.register(context.channel, selectors.EVENT_READ, obey)
        selector.register(news, selectors.EVENT_READ, news.notice)
        context.channel.ready()
        while not (context.stop.is_set or context.channel.supervisor_gone):
            context.channel.beat(HANG_AFTER_S, at_most_every_s=BEAT_EVERY_S)
            pauses = [server.pause_s(), news.pause_s()]
            for key, _ in selector.select(min([BEAT_EVERY_S, *(pause for pause in pauses if pause is not None)])):
                key.data()
            server.accept_pending()
            news.note_certificate(server.certificate_verdict(datetime.datetime.now(datetime.UTC)))
            watch.check()
            accesses.tell(context.channel)
            news.tell(context.channel, server.refusals, server.active_associations, tally)
    server.stop(ASSOCIATIONS_MAY_END_S)
    watch.end()
    reports.close()
    engine.dispose()


def _obey(channel: Channel, last_queries: LastQueries, last_refusals: LastRefusals, news: News) -> None:
    """Answer commands from the supervisor about the scanners' last queries."""
    for message in channel.receive():
        if message.get("kind") == "prepared":
            news.note_prepared()
        if message.get("kind") == "erased":
            last_queries.forget()
        if message.get("kind") == "command":
            title = message.get("title")
            if message.get("command") == "last-query" and isinstance(title, str):
                told: dict[str, object] = {"query": last_queries.of(title), "refused": last_refusals.tell(title)}
            else:
                told = {"asked": last_queries.overview(), "refused": last_refusals.tell()}
            channel.answer(message.get("id"), text=json.dumps(told))
