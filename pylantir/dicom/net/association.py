"""An association within bounds: pynetdicom's, which by itself believes what a peer announces and waits as it pleases.

Lives in the server process, one thread per association, which sleeps until the peer says something. A socket and the
association request that was read from it come in; what the peer may send, in which time, and what is left behind when
it breaks the rules is decided here. Negotiation and all services but one are pynetdicom's; worklist queries are
answered here, straight onto the connection.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Sequence
from typing import Any

from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_FIND
from pynetdicom.sop_class import ModalityWorklistInformationFind  # type: ignore[attr-defined]

from pylantir.dicom.find.answers import FindExchange
from pylantir.dicom.find.messages import Ending, ResponseWriter
from pylantir.dicom.net.complaints import Complaints
from pylantir.dicom.net.connection import BoundedSocket
from pylantir.dicom.net.upper_layer import BoundedMessages, ThreadlessProvider

logger = logging.getLogger(__name__)

Answer = Callable[[FindExchange], None]

FINISH_TIMEOUT_S = 10.0
SEND_FROM_BYTES = 64 * 1024
"""So much is gathered before it is sent: many responses in one write, and memory that does not grow."""
MESSAGES_PER_LOOK = 32


class BoundedAssociation(Association):
    """One accepted association: pynetdicom's, with bounded parts and an end in any case."""

    dul: ThreadlessProvider
    dimse: BoundedMessages

    def __init__(
        self,
        entity: AE,
        connection: socket.socket,
        address: Any,
        received: bytes,
        complaints: Complaints,
        answer_query: Answer,
    ) -> None:
        """Prepare; `start` begins.

        Args:
            entity: The application entity with its timeouts.
            connection: The peer's, blocking.
            address: As `accept` gave it.
            received: The association request, read from the connection.
            complaints: Gets to know who breaks the rules.
            answer_query: Answers a worklist query; called in the association's thread.
        """
        super().__init__(entity, "acceptor")
        self.dul = ThreadlessProvider(self)
        self.dimse = BoundedMessages(self)
        # The timers are the provider's, so what the base class has set is lost.
        self.acse_timeout, self.network_timeout = entity.acse_timeout, entity.network_timeout
        self.host = str(address[0])
        self._complaints = complaints
        self._answer_query = answer_query
        self.is_to_abort = False
        self.name = f"association with {self.host}"
        self.set_socket(BoundedSocket(self, connection, received, self.complain))

    def complain(self, text: str) -> None:
        """Log a broken rule."""
        self._complaints.add(self.host, text)

    def request_abort(self) -> None:
        """Let the association abort as soon as it waits for its peer. For any thread."""
        self.is_to_abort = True
        self.dul.socket.stop_receiving()

    def break_off(self) -> None:
        """End the connection though its thread is at work on it. For any thread."""
        self.is_to_abort = True
        self.dul.socket.break_off()

    def run_reactor(self) -> None:
        """Run until the association is over, and leave no socket behind."""
        try:
            super().run_reactor()
            self.dul.finish(FINISH_TIMEOUT_S)
        except Exception as error:  # noqa: BLE001 - a stranger's bytes raise anything, the text may quote them
            # After an abort, the answer that was under way is one too many: nothing to speak of.
            if not (self._sent_abort or self.acse.is_aborted()):
                self.complain(f"ended: its protocol data cannot be followed ({type(error).__name__})")
            self.dul.socket.send_abort()
        finally:
            self.kill()
            self.dul.kill_dul()
            self.dul.socket.close()

    def _run_reactor(self) -> None:
        """Serve one message after the other until the peer releases, aborts or falls silent."""
        while not self._kill:
            context_id, message = self.dimse.get_msg(block=False)
            if self.is_to_abort:
                self.abort()
            elif message is not None and context_id is not None:
                self._serve_request(message, context_id)
                self.dul.restart_idle_timer()
            elif self.acse.is_release_requested():
                self.acse.send_release(is_response=True)
                self.is_released = True
                self.kill()
            elif self.acse.is_aborted() or not self.dul.is_alive():
                self.is_aborted = True
                self.kill()
            elif self.dul.idle_timer_expired():
                self.abort()
            else:
                self.dul.attend(self.dul.idle_s_left())

    def _serve_request(self, msg: Any, context_id: int) -> None:
        context = self._accepted_cx.get(context_id)
        if (
            isinstance(msg, C_FIND)
            and msg.is_valid_request
            and msg.MessageID is not None
            and context is not None
            and context.abstract_syntax == msg.AffectedSOPClassUID == ModalityWorklistInformationFind
        ):
            self.dimse.cancel_req = {}
            self._answer_query(_Exchange(self, msg, msg.MessageID, context_id))
        else:
            super()._serve_request(msg, context_id)

    def _abort_blocking(self, block: bool = True) -> None:
        """Abort; only ever called in the association's own thread, which has nobody to wait for."""
        if not self._sent_abort and not self.is_released:
            self._sent_abort = True
            self.acse.send_abort(0x00)
            self.kill()


class _Exchange:
    """A worklist query and the way back, past pynetdicom's queues: see `FindExchange`."""

    def __init__(self, association: BoundedAssociation, request: C_FIND, message_id: int, context_id: int) -> None:
        context = association._accepted_cx[context_id]  # noqa: SLF001 - as the library's own services do
        self.caller = association.requestor.ae_title
        self.identifier = request.Identifier.getvalue() if request.Identifier else b""
        self.explicit_vr = context.transfer_syntax[0] == ExplicitVRLittleEndian
        self._message_id = message_id
        self._association = association
        self._writer = ResponseWriter(
            context_id=context_id, message_id=message_id, max_length=association.requestor.maximum_length or 0
        )
        self._pieces: list[bytes] = []
        self._gathered_bytes = 0

    def send(self, identifiers: Sequence[bytes], status: int) -> None:
        """Send pending responses, with others in one write."""
        pieces = self._writer.pending(identifiers, status)
        self._pieces += pieces
        self._gathered_bytes += sum(map(len, pieces))
        if self._gathered_bytes >= SEND_FROM_BYTES:
            self._flush()

    def conclude(self, ending: Ending) -> None:
        """Send the last response."""
        self._pieces.append(self._writer.ending(ending))
        self._flush()
        self._association.dul.attend_to_all(MESSAGES_PER_LOOK)

    def is_cancelled(self) -> bool:
        """Look whether the peer has said anything meanwhile, and whether it was that."""
        self._association.dul.attend_to_all(MESSAGES_PER_LOOK)
        return self._message_id in self._association.dimse.cancel_req

    def is_over(self) -> bool:
        """Whether the association has ended, or is to."""
        return not self._association.dul.is_alive() or self._association.is_to_abort

    def _flush(self) -> None:
        if not self.is_over():
            self._association.dul.socket.send(b"".join(self._pieces))
        self._pieces, self._gathered_bytes = [], 0
