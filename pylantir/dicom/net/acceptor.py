"""Serves DICOM associations on a socket that the supervisor has bound.

Lives in the server process. Connections and the services come in, DICOM responses go out. Its owner's loop watches the
listener; without an association nothing here runs. It knows no database, no query and no report.
"""

from __future__ import annotations

import datetime
import logging
import socket
import threading
import time
from collections.abc import Callable, Mapping

from pylantir.certificates import PeerCertificate, Verdict
from pylantir.dicom.net.admission import Admission, Occupant, Place, Refusal
from pylantir.dicom.net.association import Association
from pylantir.dicom.net.bridge import IMPLEMENTATION_CLASS, IMPLEMENTATION_VERSION
from pylantir.dicom.net.messages import Room
from pylantir.dicom.net.negotiation import AssociationRequest, Offer
from pylantir.dicom.net.reception import Arrival, Reception
from pylantir.dicom.net.refusals import Peer, Reason, Refusals
from pylantir.dicom.net.services import TRANSFER_SYNTAXES, Services
from pylantir.dicom.tls import ServerTls
from pylantir.settings import DicomSettings

logger = logging.getLogger(__name__)

ABORT_TIMEOUT_S = 0.5


class DicomServer:
    """One application entity on one listening socket."""

    def __init__(
        self,
        listener: socket.socket,
        settings: DicomSettings,
        services: Services,
        *,
        on_refusal: Callable[[Reason, Peer, str], None] = lambda _reason, _peer, _text: None,
        on_told: Callable[[Reason, Peer, str], None] = lambda _reason, _peer, _text: None,
    ) -> None:
        """Prepare to serve; nothing is accepted before `accept_pending`.

        Args:
            listener: Bound and listening. It becomes non-blocking, and is closed by `stop`; another process
                that holds a copy goes on queueing connections.
            settings: The server's own AE title and the clients that it serves.
            services: They answer the requests. Called from association threads, several at once.
            on_refusal: Called, from any thread, with each refusal, when it is counted in `refusals`.
            on_told: Called, from any thread, with a refusal that is logged; one of the same kind from the same
                address comes at most once a minute.

        Raises:
            ConfigurationError: The TLS certificates cannot be used.
        """
        self._settings = settings
        self._services = services
        self._offer = Offer(
            syntaxes=dict.fromkeys(services.sop_classes, TRANSFER_SYNTAXES),
            implementation_class=IMPLEMENTATION_CLASS,
            implementation_version=IMPLEMENTATION_VERSION,
        )
        self._admission = Admission(settings)
        self._associations: list[Association] = []
        self._large_report_turn = threading.Lock()
        self._room = Room()
        self._refusals = Refusals(logger, on_refusal=on_refusal, on_told=on_told)
        self._tls = ServerTls(settings.tls) if settings.tls else None
        self._reception = Reception(
            listener,
            self._admission,
            self._refusals,
            decide=self._decide,
            hand_over=self._begin_association,
            secure=self._tls.secure if self._tls else None,
        )

    def fileno(self) -> int:
        """A descriptor for a selector: readable when `accept_pending` has something to do."""
        return self._reception.fileno()

    def accept_pending(self) -> None:
        """Attend to the listener and to connections that have not asked for an association yet. Never blocks."""
        self._reception.serve()

    def pause_s(self) -> float | None:
        """Seconds until `accept_pending` has something to do even without network traffic; None: never."""
        return self._reception.pause_s()

    @property
    def active_associations(self) -> int:
        """Associations being served. For any thread."""
        return sum(association.is_alive() for association in self._associations)

    @property
    def waiting_connections(self) -> int:
        """Connections that have not asked for an association yet."""
        return len(self._reception)

    @property
    def refusals(self) -> Mapping[str, int]:
        """Reason -> how many associations and messages were refused or aborted for it."""
        return self._refusals.counts

    def certificate_verdict(self, now: datetime.datetime) -> Verdict:
        """Say whether the server's certificate is good, and for how long."""
        return self._tls.verdict(now) if self._tls else Verdict()

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

    def _alive(self) -> list[Association]:
        self._associations = [association for association in self._associations if association.is_alive()]
        return self._associations

    def _decide(self, request: AssociationRequest, host: str, certificate: PeerCertificate | None) -> Place | Refusal:
        """Decide on a request, and ask the association that has to give way to it to abort."""
        associations = [association for association in self._alive() if not association.is_leaving]
        occupants = [
            Occupant(host=association.peer.host, is_known=association.is_known, idle_since=association.idle_since)
            for association in associations
        ]
        verdict = self._admission.decide(request, host, occupants, certificate)
        if isinstance(verdict, Place) and verdict.gives_way is not None:
            association = associations[verdict.gives_way]
            association.request_abort(Reason.GAVE_WAY, "it was idle longest, and a configured scanner needs its place")
        return verdict

    def _begin_association(self, arrival: Arrival) -> None:
        """Serve an admitted connection in a thread of its own."""
        association = Association(
            arrival.connection,
            arrival.peer,
            arrival.request,
            offer=self._offer,
            services=self._services,
            refusals=self._refusals,
            idle_timeout_s=self._settings.idle_timeout_s,
            large_report_turn=self._large_report_turn,
            room=self._room,
            is_known=arrival.is_known,
        )
        association.start()
        self._associations.append(association)


def _abort(associations: list[Association]) -> None:
    """Ask associations to abort; break the connection of those that are busy with their peer."""
    for association in associations:
        association.request_abort(Reason.STOPPING, "the server stops")
    for association in _still_alive(associations):
        association.break_off()
    _still_alive(associations)


def _still_alive(associations: list[Association]) -> list[Association]:
    """Wait a moment, then return the associations that have not ended."""
    deadline = time.monotonic() + ABORT_TIMEOUT_S
    for association in associations:
        association.join(max(0.0, deadline - time.monotonic()))
    return [association for association in associations if association.is_alive()]
