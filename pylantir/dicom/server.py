"""Serving the worklist: associations, C-ECHO and C-FIND over a socket that somebody else has bound.

Lives in the server process. Connections and a `find` function come in, DICOM responses go out. Its owner's
loop watches the listener; without an association nothing here runs. It knows no database, and logs no
identifier: that is patient data.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import closing
from dataclasses import replace
from typing import Any

import pydicom.config
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, _config, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    ModalityWorklistInformationFind,
    Verification,
)
from pynetdicom.transport import AssociationServer

from pylantir.dicom.encoding import encode_response
from pylantir.dicom.matching import ParsedQuery, parse_query
from pylantir.errors import InvalidQuery, PylantirError, RecordRejected, StoreError
from pylantir.query import WorklistQuery
from pylantir.settings import SERVED_STATUSES, DicomSettings

logger = logging.getLogger(__name__)

Find = Callable[[WorklistQuery], Iterable[Mapping[str, object]]]
Answers = Generator[tuple[int | Dataset, Dataset | None], None, None]

SUCCESS = 0x0000
CANCELLED = 0xFE00
PENDING = 0xFF00
PENDING_UNSUPPORTED_KEYS = 0xFF01
OUT_OF_RESOURCES = 0xA700
IDENTIFIER_MISMATCH = 0xA900
UNABLE_TO_PROCESS = 0xC001

MAX_ASSOCIATIONS = 100
ASSOCIATION_REQUEST_TIMEOUT_S = 10
MESSAGE_TIMEOUT_S = 30
IDLE_TIMEOUT_S = 60
ABORT_TIMEOUT_S = 0.5
RESPONSES_AHEAD = 32
"""So many responses may wait to be sent: bounds the memory of a query, and lets a C-CANCEL in."""

_STATUS_FIELD = "performed_procedure_step_status"


def configure_dicom_libraries() -> None:
    """Keep patient data out of the logs, for this whole process.

    pynetdicom logs identifiers at INFO, pydicom warns of odd values by quoting them. To be called once by the
    process body.
    """
    _config.LOG_HANDLER_LEVEL = "none"
    _config.LOG_REQUEST_IDENTIFIERS = False
    _config.LOG_RESPONSE_IDENTIFIERS = False
    logging.getLogger("pynetdicom").setLevel(logging.WARNING)
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module=r"pydicom\.")
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE


class WorklistServer:
    """The worklist's DICOM side: one application entity on one listening socket."""

    def __init__(
        self,
        listener: socket.socket,
        settings: DicomSettings,
        find: Find,
        *,
        served_statuses: tuple[str, ...] = SERVED_STATUSES,
    ) -> None:
        """Prepare to serve; nothing is accepted before `accept_pending`.

        Args:
            listener: Bound and listening. It becomes non-blocking, and is closed by `stop`; another process
                that holds a copy goes on queueing connections.
            settings: AE title and allowed calling AE titles (none = any).
            find: Gives the items that match, in the order to send them. Called from association threads,
                several at once; its result is closed when it has a `close`. May raise StoreError.
            served_statuses: Statuses of the items to send to a query that names none.
        """
        self._find = find
        self._served_statuses = served_statuses
        entity = AE(ae_title=settings.ae_title)
        for sop_class in (Verification, ModalityWorklistInformationFind):
            entity.add_supported_context(sop_class, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
        entity.require_calling_aet = list(settings.allowed_aet)
        entity.maximum_associations = MAX_ASSOCIATIONS
        entity.acse_timeout = ASSOCIATION_REQUEST_TIMEOUT_S
        entity.dimse_timeout = MESSAGE_TIMEOUT_S
        entity.network_timeout = IDLE_TIMEOUT_S
        listener.setblocking(False)
        self._server = entity.make_server(
            listener.getsockname(),
            server_class=_SharedListener,
            evt_handlers=[
                (evt.EVT_C_FIND, self._answer_query),
                (evt.EVT_REJECTED, _log_rejection),
                (evt.EVT_CONN_CLOSE, _end_probe),
            ],
            listener=listener,
        )

    def fileno(self) -> int:
        """The listener's file descriptor, for a selector."""
        return self._server.fileno()

    def accept_pending(self) -> None:
        """Accept one waiting connection, if there is one, and serve it in a thread. Never blocks."""
        self._server.handle_request()

    @property
    def active_associations(self) -> int:
        """Connections being served, those that have not asked for an association yet included."""
        return len(self._server.active_associations)

    def stop(self, grace_s: float) -> None:
        """Accept nothing more, let associations end by themselves for `grace_s` seconds, then abort them.

        To be taken off its owner's selector before.
        """
        self._server.server_close()
        deadline = time.monotonic() + grace_s
        associations = self._server.active_associations
        for association in associations:
            association.join(max(0.0, deadline - time.monotonic()))
        _abort([association for association in associations if association.is_alive()])

    def _answer_query(self, event: evt.Event) -> Answers:
        """Answer one C-FIND request, and log it in one line."""
        started = time.monotonic()
        caller = event.assoc.requestor.ae_title
        matches = 0
        outcome = "abandoned"
        try:
            with closing(self._answers(event, caller)) as answers:
                for status, identifier in answers:
                    if identifier is None:
                        outcome = f"status 0x{status if isinstance(status, int) else status.Status:04X}"
                    else:
                        matches += 1
                    yield status, identifier
        finally:
            elapsed_ms = (time.monotonic() - started) * 1000
            logger.info("query from %s: %d matches, %s, %.0f ms", caller, matches, outcome, elapsed_ms)

    def _answers(self, event: evt.Event, caller: str) -> Answers:
        try:
            parsed = parse_query(_decoded_identifier(event))
            yield from self._matches(event, parsed, caller)
        except InvalidQuery as error:
            logger.warning("query from %s refused: element %08X: %s", caller, error.tag, error)
            yield _failure(IDENTIFIER_MISMATCH, str(error), error.tag), None
        except (StoreError, MemoryError) as error:
            _log_failure(caller, error)
            yield _failure(OUT_OF_RESOURCES, "the worklist cannot be read just now"), None
        except Exception as error:  # noqa: BLE001 - without an answer of ours the library would say "success"
            _log_failure(caller, error)
            yield _failure(UNABLE_TO_PROCESS, "internal error"), None

    def _matches(self, event: evt.Event, parsed: ParsedQuery, caller: str) -> Answers:
        pending = PENDING_UNSUPPORTED_KEYS if parsed.unsupported else PENDING
        rows = self._find(self._with_served_statuses(parsed.query))
        try:
            for number, row in enumerate(rows, start=1):
                if event.is_cancelled:
                    yield CANCELLED, None
                    return
                try:
                    response = encode_response(row, parsed, station_aet=caller)
                except RecordRejected as error:
                    logger.warning("not sent to %s: %s", caller, error)
                    continue
                yield pending, response
                if number % RESPONSES_AHEAD == 0:
                    _let_peer_catch_up(event.assoc)
            yield SUCCESS, None
        finally:
            close = getattr(rows, "close", None)
            if close is not None:
                close()

    def _with_served_statuses(self, query: WorklistQuery) -> WorklistQuery:
        if _STATUS_FIELD in query.equal:
            return query
        return replace(query, equal={**query.equal, _STATUS_FIELD: self._served_statuses})


class _SharedListener(AssociationServer):
    """pynetdicom's server, on a socket that is bound already and that other processes hold as well."""

    def __init__(self, *args: Any, listener: socket.socket, **kwargs: Any) -> None:
        self._listener = listener
        super().__init__(*args, **kwargs)

    def server_bind(self) -> None:
        if self.socket is not None:
            self.socket.close()  # the base class has made one of its own
        self.socket = self._listener
        self.server_address = self._listener.getsockname()

    def server_activate(self) -> None:
        """The listener listens."""

    def server_close(self) -> None:
        # Not shut down: that would refuse the connections which wait for our successor.
        self._listener.close()

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        # Header and body of a response are two writes: with Nagle's algorithm each pair costs a delayed
        # acknowledgement.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(IDLE_TIMEOUT_S)
        return connection, address

    def verify_request(self, request: object, client_address: Any) -> bool:
        """Bound the threads: pynetdicom counts associations only once they are asked for."""
        within = len(self.active_associations) < 2 * MAX_ASSOCIATIONS
        if not within:
            logger.warning("connection from %s closed: too many", client_address[0])
        return within

    def handle_error(self, request: object, client_address: Any) -> None:
        logger.exception("connection from %s could not be served", client_address[0])


def _decoded_identifier(event: evt.Event) -> Dataset:
    try:
        return event.identifier
    except Exception as error:  # noqa: BLE001 - pydicom decodes here, and a stranger's bytes raise anything
        raise InvalidQuery(0, f"the identifier cannot be decoded ({type(error).__name__})") from None


def _failure(status: int, comment: str, tag: int = 0) -> Dataset:
    response = Dataset()
    response.Status = status
    response.ErrorComment = comment[:64]
    if tag:
        response.OffendingElement = tag
    return response


def _log_failure(caller: str, error: BaseException) -> None:
    """Log where an exception was raised, and its text only if it is ours: others quote patient data."""
    text = str(error) if isinstance(error, PylantirError) else type(error).__name__
    frames = "".join(traceback.format_tb(error.__traceback__))
    logger.error("query from %s failed: %s\n%s", caller, text, frames.rstrip())


def _log_rejection(event: evt.Event) -> None:
    peer = event.assoc.requestor
    logger.warning("association from %s at %s rejected", peer.ae_title, peer.address)


def _end_probe(event: evt.Event) -> None:
    """Let go of a connection that closed without asking for an association, as health checks do."""
    provider = event.assoc.dul
    if provider.state_machine.current_state == "Sta2":
        # The association's thread would wait for the request until its timeout.
        provider.to_user_queue.put(None)  # type: ignore[arg-type]  # the same as that timeout


def _let_peer_catch_up(association: Association) -> None:
    """Wait until what was handed to the sending thread is sent, or the association is over."""
    queue = association.dul.to_provider_queue
    with queue.not_full:
        while queue.queue and association.dul.is_alive() and not association.acse.is_aborted():
            queue.not_full.wait(timeout=0.1)


def _abort(associations: list[Association]) -> None:
    for association in associations:
        # Blocks while its thread reads half a message, so each in a thread of its own.
        threading.Thread(target=association.abort, daemon=True).start()
    deadline = time.monotonic() + ABORT_TIMEOUT_S
    for association in associations:
        association.dul.join(max(0.0, deadline - time.monotonic()))
    for association in associations:
        connection = association.dul.socket
        if association.dul.is_alive() and connection is not None and connection.socket is not None:
            # The interpreter waits for these threads at exit.
            association.dul.kill_dul()
            connection.close()
            association.dul.join(ABORT_TIMEOUT_S)
