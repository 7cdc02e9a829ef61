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
import warnings
from typing import Any

import pydicom.config
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, _config, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    ModalityWorklistInformationFind,
    Verification,
)
from pynetdicom.transport import AssociationServer

from pylantir.dicom.answers import Find, QueryService
from pylantir.dicom.mpps import MPPS_SOP_CLASSES, MppsPorts, MppsService
from pylantir.settings import DicomSettings

logger = logging.getLogger(__name__)

MAX_ASSOCIATIONS = 100
ASSOCIATION_REQUEST_TIMEOUT_S = 10
MESSAGE_TIMEOUT_S = 30
IDLE_TIMEOUT_S = 60
ABORT_TIMEOUT_S = 0.5


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
        mpps: MppsPorts | None = None,
    ) -> None:
        """Prepare to serve; nothing is accepted before `accept_pending`.

        Args:
            listener: Bound and listening. It becomes non-blocking, and is closed by `stop`; another process
                that holds a copy goes on queueing connections.
            settings: AE title and allowed calling AE titles (none = any).
            find: Gives the items that match, in the order to send them. Called from association threads,
                several at once; its result is closed when it has a `close`. May raise StoreError.
            mpps: Where scanners' reports go; without it none are accepted.
        """
        queries = QueryService(settings, find)
        entity = AE(ae_title=settings.ae_title)
        for sop_class in (Verification, ModalityWorklistInformationFind):
            entity.add_supported_context(sop_class, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
        reports = MppsService(mpps) if mpps else None
        for sop_class in MPPS_SOP_CLASSES if reports else ():
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
                (evt.EVT_C_FIND, queries.answer),
                *(reports.handlers if reports else ()),
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


def _log_rejection(event: evt.Event) -> None:
    peer = event.assoc.requestor
    logger.warning("association from %s at %s rejected", peer.ae_title, peer.address)


def _end_probe(event: evt.Event) -> None:
    """Let go of a connection that closed without asking for an association, as health checks do."""
    provider = event.assoc.dul
    if provider.state_machine.current_state == "Sta2":
        # The association's thread would wait for the request until its timeout.
        provider.to_user_queue.put(None)  # type: ignore[arg-type]  # the same as that timeout


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
