"""An association within bounds: pynetdicom's, which by itself believes what a peer announces and waits as it pleases.

Lives in the server process, two threads per association. A socket and the association request that was read from it
come in; what the peer may send, in which time, and what is left behind when it breaks the rules is decided here.
"""

from __future__ import annotations

import contextlib
import logging
import select
import socket
import ssl
import time
from typing import Any, NoReturn

from pynetdicom import AE, evt
from pynetdicom.acse import ACSE
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dul import DULServiceProvider
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.transport import AssociationSocket

from pylantir.dicom.complaints import Complaints

logger = logging.getLogger(__name__)

MAX_PDU_BYTES = 1024 * 1024
"""Longest PDU that is read; what we offer to receive is far less."""
MAX_MESSAGE_BYTES = 16 * 1024 * 1024
MAX_WAITING_MESSAGES = 16
PDU_TIMEOUT_S = 30.0
"""From the first byte of a PDU to its last, either way."""
MESSAGE_TIMEOUT_S = 60.0
_HEADER_BYTES = 6
_INVALID_PDU = "Evt19"
_CONNECTION_CLOSED = "Evt17"
# PS3.8 9.3.8: by the service provider, for no reason in particular.
_A_ABORT = bytes((0x07, 0, 0, 0, 0, 4, 0, 0, 2, 0))
_QUICKACK = getattr(socket, "TCP_QUICKACK", None)


class BoundedSocket(AssociationSocket):
    """A connection that neither waits nor reads without end."""

    def __init__(self, association: BoundedAssociation, connection: socket.socket, received: bytes) -> None:
        """Take over a connected socket.

        Args:
            association: Whose it becomes.
            connection: Blocking.
            received: What was read from it already.
        """
        super().__init__(association, client_socket=connection)
        self._received = received
        self._complain = association.complain
        self._deadline = 0.0
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)

    @property
    def ready(self) -> bool:
        """Whether there is something to read; unlike the base class's it works for any descriptor."""
        connection = self.socket
        if connection is None:
            return False
        if self._received or (isinstance(connection, ssl.SSLSocket) and connection.pending()):
            return True
        return bool(self._poll.poll(0))

    def recv(self, nr_bytes: int) -> bytearray:
        """Read so many bytes, of one PDU within `PDU_TIMEOUT_S`; fewer only at the connection's end.

        Raises:
            OSError: The PDU is too long, too slow, or the connection is broken.
        """
        if nr_bytes == _HEADER_BYTES:
            self._deadline = time.monotonic() + PDU_TIMEOUT_S
        if nr_bytes > MAX_PDU_BYTES:
            self._abort(f"it announces a PDU of {nr_bytes} bytes")
        data = bytearray(self._received[:nr_bytes])
        self._received = self._received[nr_bytes:]
        while len(data) < nr_bytes:
            try:
                part = self._connection().recv(min(nr_bytes - len(data), 65536))
            except TimeoutError:
                self._abort(f"a PDU took more than {PDU_TIMEOUT_S:.0f} s")
            if not part:
                break
            data += part
        return data

    def send(self, bytestream: bytes) -> None:
        """Send one PDU, within `PDU_TIMEOUT_S`."""
        self._deadline = time.monotonic() + PDU_TIMEOUT_S
        unsent = memoryview(bytestream)
        try:
            while unsent:
                unsent = unsent[self._connection().send(unsent) :]
        except (OSError, ValueError):
            self.event_queue.put(_CONNECTION_CLOSED)

    def _connection(self) -> socket.socket:
        """The socket, set to wait until the deadline at most."""
        left_s = self._deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        connection = self.socket
        if connection is None:
            raise ConnectionResetError
        connection.settimeout(left_s)
        if _QUICKACK is not None:
            # A client that sends header and body apart would wait for our delayed acknowledgement.
            connection.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
        return connection

    def _abort(self, reason: str) -> NoReturn:
        """Tell the peer, which the state machine cannot while it waits for the rest of a PDU, and give up."""
        self._complain(f"aborted: {reason}")
        if self.socket is not None:
            with contextlib.suppress(OSError):
                self.socket.settimeout(0)
                self.socket.send(_A_ABORT)
        raise ConnectionAbortedError

    def _shutdown_socket(self) -> None:
        connection = self.socket
        if connection is not None:
            with contextlib.suppress(OSError, ValueError):
                connection.shutdown(socket.SHUT_RDWR)
            # Closed even if it could not be shut down any more, as when the peer was first.
            connection.close()


class BoundedMessages(DIMSEServiceProvider):
    """Messages of bounded size, number and duration."""

    _started_at = 0.0

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Add a fragment to the message; ends the association of a peer that breaks the rules."""
        if self.message is None:
            self._started_at = time.monotonic()
        try:
            super().receive_primitive(primitive)
            problem = self._problem()
        except Exception as error:  # noqa: BLE001 - pynetdicom decodes here, and a stranger's bytes raise anything
            problem = f"its message cannot be read ({type(error).__name__})"
        if problem:
            association = self.assoc
            self.message = None
            assert isinstance(association, BoundedAssociation)  # noqa: S101 - we are made there
            association.complain(f"aborted: {problem}")
            self.dul.event_queue.put(_INVALID_PDU)

    def _problem(self) -> str | None:
        if self.msg_queue.qsize() > MAX_WAITING_MESSAGES:
            return "it sends requests without waiting for answers"
        if self.message is None:
            return None
        data_set = self.message.data_set
        size = self.message.encoded_command_set.tell() + (data_set.tell() if data_set else 0)
        if size > MAX_MESSAGE_BYTES:
            return f"its message has more than {MAX_MESSAGE_BYTES} bytes"
        if time.monotonic() - self._started_at > MESSAGE_TIMEOUT_S:
            return f"its message took more than {MESSAGE_TIMEOUT_S:.0f} s"
        return None


class BoundedProvider(DULServiceProvider):
    """The upper layer's thread; when it fails, the connection ends with it."""

    def run_reactor(self) -> None:
        """Run until the association is over."""
        try:
            super().run_reactor()
        except Exception as error:  # noqa: BLE001 - a stranger's bytes raise anything, the text may quote them
            association = self.assoc
            assert isinstance(association, BoundedAssociation)  # noqa: S101 - we are made there
            if not association.acse.is_aborted():
                # After an abort, the answer that was under way is one too many: nothing to speak of.
                association.complain(f"ended: its protocol data cannot be followed ({type(error).__name__})")
            if self.socket is not None:
                self.socket.close()


class PatientRelease(ACSE):
    """Association control that lets a query end before it answers a release request."""

    def is_release_requested(self) -> bool:
        """Whether the peer wants to release; not during a query, which would end in "success" and be cut short."""
        association = self.assoc
        assert isinstance(association, BoundedAssociation)  # noqa: S101 - we are made there
        return not association.is_serving and super().is_release_requested()


class BoundedAssociation(Association):
    """One accepted association: pynetdicom's, with bounded parts and an end in any case."""

    def __init__(
        self, entity: AE, connection: socket.socket, address: Any, received: bytes, complaints: Complaints
    ) -> None:
        """Prepare; `start` begins.

        Args:
            entity: The application entity with its timeouts.
            connection: The peer's, blocking.
            address: As `accept` gave it.
            received: The association request, read from the connection.
            complaints: Gets to know who breaks the rules.
        """
        super().__init__(entity, "acceptor")
        self.is_serving = False
        self.acse = PatientRelease(self)
        self.dul = BoundedProvider(self)
        self.dimse = BoundedMessages(self)
        # The timers are the provider's, so what the base class has set is lost.
        self.acse_timeout, self.network_timeout = entity.acse_timeout, entity.network_timeout
        self.host = str(address[0])
        self._complaints = complaints
        self.name = f"association with {self.host}"
        self.set_socket(BoundedSocket(self, connection, received))
        self.bind(evt.EVT_CONN_CLOSE, _let_go)

    def complain(self, text: str) -> None:
        """Log a broken rule."""
        self._complaints.add(self.host, text)

    def _serve_request(self, msg: Any, context_id: int) -> None:
        self.is_serving = True
        try:
            super()._serve_request(msg, context_id)
        finally:
            self.is_serving = False

    def run_reactor(self) -> None:
        """Run until the association is over, and leave neither a thread nor a socket behind."""
        try:
            super().run_reactor()
        except Exception as error:  # noqa: BLE001 - negotiating a stranger's request raises anything
            self.complain(f"ended: its request cannot be followed ({type(error).__name__})")
        finally:
            self.dul.kill_dul()
            if self.dul.socket is not None:
                self.dul.socket.close()


def _let_go(event: evt.Event) -> None:
    """End an association whose connection closed before it was negotiated."""
    if event.assoc.requestor.primitive is None:
        # The association's thread would wait for the request until its timeout.
        event.assoc.dul.to_user_queue.put(None)  # type: ignore[arg-type]  # the same as that timeout
