"""Serving the worklist: associations, C-ECHO and C-FIND over a socket that somebody else has bound.

Lives in the server process. Connections and a `find` function come in, DICOM responses go out. Its owner's
loop watches the listener; without an association nothing here runs. It knows no database, and logs no
identifier: that is patient data.
"""

from __future__ import annotations

import logging
import socket
import time
import warnings
from collections import Counter
from typing import Any

import pydicom.config
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, _config, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    ModalityWorklistInformationFind,
    Verification,
)
from pynetdicom.transport import AddressInformation

from pylantir.dicom.find.answers import Find, QueryService
from pylantir.dicom.mpps.service import MPPS_SOP_CLASSES, MppsPorts, MppsService
from pylantir.dicom.net.admission import Admission
from pylantir.dicom.net.association import BoundedAssociation
from pylantir.dicom.net.complaints import Complaints
from pylantir.dicom.net.reception import Reception
from pylantir.dicom.net.tls import ServerTls
from pylantir.settings import DicomSettings

logger = logging.getLogger(__name__)

SOP_CLASSES = (Verification, ModalityWorklistInformationFind)
TRANSFER_SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
NEGOTIATION_TIMEOUT_S = 10.0
ABORT_TIMEOUT_S = 0.5


def configure_dicom_libraries() -> None:
    """Keep patient data out of the logs, for this whole process.

    pynetdicom logs identifiers at INFO, pydicom warns of odd values by quoting them. To be called once by the
    process body.
    """
    _config.LOG_HANDLER_LEVEL = "none"
    _config.LOG_REQUEST_IDENTIFIERS = False
    _config.LOG_RESPONSE_IDENTIFIERS = False
    # What it says of a failure, and about whom, we say in our own words; it would show a stranger's bytes.
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module=r"pydicom\.")
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE


class WorklistServer:
    """The worklist's DICOM side: one application entity on one listening socket."""

    def __init__(
        self, listener: socket.socket, settings: DicomSettings, find: Find, mpps: MppsPorts | None = None
    ) -> None:
        """Prepare to serve; nothing is accepted before `accept_pending`.

        Args:
            listener: Bound and listening. It becomes non-blocking, and is closed by `stop`; another process
                that holds a copy goes on queueing connections.
            settings: As whom to serve, and whom.
            find: Gives the items that match. Called from association threads, several at once.
            mpps: Where scanners' reports go; without it none are accepted.

        Raises:
            ConfigurationError: The TLS certificates cannot be used.
        """
        self._queries = QueryService(settings, find)
        self._handlers: list[evt.EventHandlerType] = [(evt.EVT_REJECTED, _log_rejection)]
        self._entity = AE(ae_title=settings.ae_title)
        if mpps is not None:
            self._handlers += MppsService(mpps).handlers
        for sop_class in SOP_CLASSES if mpps is None else (*SOP_CLASSES, *MPPS_SOP_CLASSES):
            self._entity.add_supported_context(sop_class, list(TRANSFER_SYNTAXES))
        # Reached only if `Admission` lets too many in: the library would stop at ten.
        self._entity.maximum_associations = settings.max_associations
        self._entity.acse_timeout = NEGOTIATION_TIMEOUT_S
        self._entity.dimse_timeout = self._entity.network_timeout = settings.idle_timeout_s
        self._associations: list[BoundedAssociation] = []
        self._complaints = Complaints(logger)
        self._address = AddressInformation.from_tuple(listener.getsockname())
        self._reception = Reception(
            listener,
            Admission(settings),
            active=self._count_by_host,
            hand_over=self._begin_association,
            secure=ServerTls(settings.tls).secure if settings.tls else None,
        )

    def fileno(self) -> int:
        """A descriptor for a selector: readable when `accept_pending` has something to do."""
        return self._reception.fileno()

    def accept_pending(self) -> None:
        """Attend to the listener and to connections that have not asked for an association yet. Never blocks."""
        self._reception.serve()

    def pause_s(self) -> float | None:
        """Seconds until `accept_pending` has something to do though nobody says anything; None: never."""
        return self._reception.pause_s()

    @property
    def active_associations(self) -> int:
        """Associations being served. For any thread."""
        return sum(association.is_alive() for association in self._associations)

    @property
    def waiting_connections(self) -> int:
        """Connections that have not asked for an association yet."""
        return len(self._reception)

    def stop(self, grace_s: float) -> None:
        """Accept nothing more, let associations end by themselves for `grace_s` seconds, then abort them.

        To be taken off its owner's selector before.
        """
        self._reception.close()
        deadline = time.monotonic() + grace_s
        associations = self._alive()
        for association in associations:
            association.join(max(0.0, deadline - time.monotonic()))
        _abort([association for association in associations if association.is_alive()])

    def _alive(self) -> list[BoundedAssociation]:
        self._associations = [association for association in self._associations if association.is_alive()]
        return self._associations

    def _count_by_host(self) -> Counter[str]:
        return Counter(association.host for association in self._alive())

    def _begin_association(self, connection: socket.socket, address: Any, request: bytes) -> None:
        """Serve an admitted connection in a thread of its own."""
        association = BoundedAssociation(
            self._entity, connection, address, request, self._complaints, self._queries.answer
        )
        acceptor = association.acceptor
        acceptor.maximum_length = self._entity.maximum_pdu_size
        acceptor.ae_title = self._entity.ae_title
        acceptor.address_info = self._address
        acceptor.implementation_class_uid = self._entity.implementation_class_uid
        acceptor.implementation_version_name = self._entity.implementation_version_name
        acceptor.supported_contexts = self._entity.supported_contexts
        association.requestor.address_info = AddressInformation.from_tuple(address)
        for handler in self._handlers:
            association.bind(*handler)
        association.start()
        self._associations.append(association)


def _log_rejection(event: evt.Event) -> None:
    peer = event.assoc.requestor
    logger.warning("association from %s at %s rejected", peer.ae_title, peer.address)


def _abort(associations: list[BoundedAssociation]) -> None:
    """Let them abort, or if they are busy with their peer, lose the connection."""
    for end in (BoundedAssociation.request_abort, BoundedAssociation.break_off):
        for association in associations:
            end(association)
        deadline = time.monotonic() + ABORT_TIMEOUT_S
        for association in associations:
            association.join(max(0.0, deadline - time.monotonic()))
        associations = [association for association in associations if association.is_alive()]
