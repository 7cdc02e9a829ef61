"""The web process: serves pages, DICOMweb and metrics on a socket that the supervisor holds.

In: HTTP requests. Out: answers, and reports for the writer. uvicorn runs its event loop in a thread of its own, because
the main thread listens to the supervisor and gives signs of life, each of which proves that the event loop runs.
"""

from __future__ import annotations

import asyncio
import selectors
import socket
import threading
import time
from functools import partial
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from pylantir.errors import PylantirError
from pylantir.settings import AccessSettings, DatabaseSettings, DicomSettings, HttpSettings, MppsSettings
from pylantir.store.schema.engine import open_for_reading
from pylantir.web.application import make_application
from pylantir.web.ports import Site
from workers.child.accesses import AccessBuffer
from workers.child.bootstrap import Context
from workers.child.report_client import ReportClient
from workers.web.connections import ImpatientProtocol, Listener
from workers.web.log_limit import limit_log
from workers.web.readings import Readings, make_ports

BEAT_EVERY_S = 5.0
HANG_AFTER_S = 20.0
STOP_WITHIN_S = 2.0
KEEP_ALIVE_S = 30
BACKLOG = 128
"""Also how many connections are accepted before those that had to make room are closed."""
MOST_REQUESTS = 500
"""More connections than `MOST_CONNECTIONS` are there only when so many requests are being answered."""


def run(
    context: Context,
    http: HttpSettings,
    dicom: DicomSettings,
    mpps: MppsSettings,
    access: AccessSettings,
    database: DatabaseSettings,
    queue_address: str,
    runtime_dir: str,
    listener: socket.socket,
) -> None:
    """Run the web process; return after an order to stop, when all running requests are answered."""
    engine = open_for_reading(database.url, read_url=database.read_url, host=database.host, process="web")
    spec = context.spec
    hello = {"role": spec.role, "source": None, "generation": spec.generation, "token": spec.token}
    accesses = AccessBuffer(access)
    reports = ReportClient(Path(queue_address), hello, mpps.timeout_s, accesses=accesses)
    readings = Readings(engine, Path(runtime_dir), accesses)
    ports = make_ports(readings, reports.report, own_only=mpps.own_only)
    application = make_application(Site(http=http, dicom=dicom, machine=database.host or socket.gethostname()), ports)
    limit_log()
    guarded = Listener(listener)
    server = _Server(_configure(application, http, guarded), guarded)
    server.start()
    with selectors.DefaultSelector() as selector:
        selector.register(context.stop, selectors.EVENT_READ, context.stop.drain)
        selector.register(context.channel, selectors.EVENT_READ, context.channel.receive)
        selector.register(server, selectors.EVENT_READ, server.drain)
        is_ready = False
        while not (context.stop.is_set or context.channel.supervisor_gone):
            if not server.is_alive():
                msg = "the web server's thread has ended"
                raise PylantirError(msg)
            if server.turns():
                context.channel.beat(HANG_AFTER_S)
                if not is_ready and server.started:
                    context.channel.ready()
                    is_ready = True
            accesses.tell(context.channel)
            for key, _ in selector.select(BEAT_EVERY_S if is_ready else 0.05):
                key.data()
    server.end(STOP_WITHIN_S)
    reports.close()
    engine.dispose()


def _configure(application: ASGIApp, http: HttpSettings, listener: Listener) -> uvicorn.Config:
    return uvicorn.Config(
        application,
        loop="asyncio",
        http=partial(ImpatientProtocol, listener),  # type: ignore[arg-type] # uvicorn only calls it
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=http.behind_proxy,
        forwarded_allow_ips="*" if http.behind_proxy else None,
        timeout_keep_alive=KEEP_ALIVE_S,
        limit_concurrency=MOST_REQUESTS,
        backlog=BACKLOG,
        ssl_certfile=http.tls.certificate if http.tls else None,
        ssl_keyfile=http.tls.key if http.tls else None,
    )


class _Server:
    """uvicorn in a thread, watched by the main one."""

    def __init__(self, config: uvicorn.Config, listener: socket.socket) -> None:
        self._server = uvicorn.Server(config)
        self._listener = listener
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)
        self._asked_at: float | None = None
        self._bell, self._ringer = socket.socketpair()
        self._bell.setblocking(False)
        self._ringer.setblocking(False)

    @property
    def started(self) -> bool:
        """Whether it answers requests."""
        return self._server.started

    def fileno(self) -> int:
        """A descriptor for a selector: readable when the event loop has answered, or its thread has ended."""
        return self._bell.fileno()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def turns(self) -> bool:
        """Ask the event loop for a sign of life; return whether it has answered since the last question."""
        if self._asked_at is not None:
            return False
        self._asked_at = time.monotonic()
        self._loop.call_soon_threadsafe(self._answer)
        return True

    def drain(self) -> None:
        """Take note that the event loop has answered."""
        try:
            while self._bell.recv(512):
                pass
        except BlockingIOError:
            pass

    def end(self, within_s: float) -> None:
        """Let uvicorn finish the running requests, then end it."""
        self._server.should_exit = True
        self._thread.join(within_s)
        self._server.force_exit = True
        self._thread.join(within_s)

    def _answer(self) -> None:
        self._asked_at = None

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._server.serve(sockets=[self._listener]))
        finally:
            self._ringer.send(b"!")
