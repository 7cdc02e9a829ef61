"""One accepted association: its state machine, in one thread.

Lives in the server process. The thread sleeps until the peer says something. A connection whose A-ASSOCIATE-RQ was
admitted comes in; the association's services are called, and their answers go out, straight onto the connection.

The states are those of PS3.8 9.2 that an acceptor knows, and a state is a place in the code:

- Sta2, Sta3 (no request, no decision yet) belong to the reception, which has no thread and hands over what it admits.
- Sta6 (established): `run` has sent the A-ASSOCIATE-AC. `_attend` reads one PDU at a time, and `_next_message` gives
  whole messages to `_serve`. While a query is answered, the same thread looks between two batches whether the peer has
  said anything (a C-CANCEL, the next requests, a release, an abort), so that no two threads ever read one connection.
- Sta8 (release requested): `_release_requested` is set. Requests that came before are answered, then A-RELEASE-RP.
- Sta13 (waiting for the end): `Connection.send_last` after an A-ABORT. After an A-RELEASE-RP nothing can be lost, and
  the connection is closed.

Every way out is an exception that says why, and `run` alone turns it into an A-ABORT and a line in the log. Other
threads only set `_abort_for` and end the connection's reading half, which wakes the thread.

Source: DICOM PS3.8 9.2 (the state machine), PS3.7 9.1.2.3 (C-CANCEL).
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time

from pylantir.dicom.net.commands import Command, Ending, Operation, ResponseWriter
from pylantir.dicom.net.connection import Connection, ConnectionEnded, PeerAborted
from pylantir.dicom.net.exchange import Exchange
from pylantir.dicom.net.messages import LARGE_MESSAGE_BYTES, Inbox, Message, Room
from pylantir.dicom.net.negotiation import AcceptedContext, AssociationRequest, Offer, accept, lack_of_contexts
from pylantir.dicom.net.pdus import ABORT, P_DATA, RELEASE_REPLY, RELEASE_RQ, abort, presentation_values
from pylantir.dicom.net.refusals import Peer, ProtocolError, Reason, Refusals
from pylantir.dicom.net.services import (
    EXPLICIT_VR,
    IDENTIFIER_MISMATCH,
    SOP_CLASS_NOT_SUPPORTED,
    UNRECOGNISED_OPERATION,
    ReportRequest,
    Services,
    busy_refusal,
    excess_refusal,
    refusal_of,
)
from pylantir.errors import frames_of

logger = logging.getLogger(__name__)

PDUS_PER_LOOK = 32
LARGE_REPORT_WAIT_S = 30.0
"""How long a large report waits for its turn. Large ones are decoded and stored one at a time: many at once would need
gigabytes, and everybody else would wait."""
_REFUSED = frozenset({IDENTIFIER_MISMATCH, SOP_CLASS_NOT_SUPPORTED, UNRECOGNISED_OPERATION})
"""Statuses that say that the peer has asked for what it cannot have; a refused report has an error ID besides."""


class _PeerFinished(ConnectionEnded):
    """The peer will send no more. It may still listen, so its requests are answered until sending fails."""


class Association(threading.Thread):
    """An association that has been admitted; `start` begins it."""

    def __init__(
        self,
        connection: socket.socket,
        peer: Peer,
        request: AssociationRequest,
        *,
        offer: Offer,
        services: Services,
        refusals: Refusals,
        idle_timeout_s: float,
        large_report_turn: threading.Lock,
        room: Room,
        is_known: bool = False,
    ) -> None:
        """Prepare.

        Args:
            connection: The peer's, blocking.
            peer: Who it is.
            request: What it asked for.
            offer: What it can get.
            services: What answers its messages.
            refusals: Gets to know why it is aborted.
            idle_timeout_s: It is aborted when nothing has happened for so long.
            large_report_turn: Held by the association that decodes a large report.
            room: What all associations share for large messages.
            is_known: It is a scanner with `host` in `modalities`.
        """
        super().__init__(name=f"association with {peer.host}")
        self.peer = peer
        self.request = request
        self.is_known = is_known
        self._heard_at = time.monotonic()
        self._is_busy = False
        self._offer = offer
        self.contexts, self._acceptance = accept(request, offer)
        self._connection = Connection(connection)
        self._services = services
        self._refusals = refusals
        self._idle_timeout_s = idle_timeout_s
        self._large_report_turn = large_report_turn
        self._inbox = Inbox(room)
        self._release_requested = False
        self._is_finished = False
        self._abort_for: tuple[Reason, str] | None = None

    @property
    def is_leaving(self) -> bool:
        """Whether somebody has asked it to abort."""
        return self._abort_for is not None

    @property
    def idle_since(self) -> float:
        """When the peer was heard or served last; while it is being served: now."""
        return time.monotonic() if self._is_busy else self._heard_at

    def request_abort(self, reason: Reason, text: str) -> None:
        """Let the association abort as soon as it waits for its peer. For any thread."""
        self._abort_for = (reason, text)
        self._connection.stop_receiving()

    def break_off(self) -> None:
        """End the connection though its thread is at work on it. For any thread."""
        self._connection.break_off()

    def run(self) -> None:
        """Serve one message after the other until the peer releases, aborts or falls silent."""
        try:
            self._connection.send(self._acceptance)
            if not self.contexts:
                self._refusals.add(Reason.CONTEXTS, self.peer, lack_of_contexts(self.request, self._offer))
            while (message := self._next_message()) is not None:
                self._is_busy = True
                self._serve(message)
                self._heard_at, self._is_busy = time.monotonic(), False
            self._connection.send(RELEASE_REPLY)
        except PeerAborted:
            self._refusals.add(Reason.ABORTED_BY_PEER, self.peer, "it has aborted the association")
        except ConnectionEnded:
            self._end(*(self._abort_for or (Reason.CONNECTION_LOST, "it has ended the connection without a release")))
        except ProtocolError as error:
            self._end(error.reason, str(error))
        except Exception as error:  # noqa: BLE001 - last resort: it is this association's failure and nobody else's
            frames = frames_of(error)
            logger.error("association with %s failed: %s\n%s", self.peer, type(error).__name__, frames)  # noqa: TRY400
            self._end(Reason.INTERNAL, f"internal error ({type(error).__name__})")
        finally:
            self._inbox.leave()
            self._connection.close()

    def _end(self, reason: Reason, text: str) -> None:
        is_gone = reason is Reason.CONNECTION_LOST
        self._refusals.add(reason, self.peer, text if is_gone else f"aborted: {text}")
        if not is_gone:
            self._connection.send_last(abort())

    def _next_message(self) -> Message | None:
        """Wait for the next request; None when the peer wants the association released."""
        while (message := self._inbox.take()) is None:
            if self._release_requested:
                return None
            left_s = self._heard_at + self._idle_timeout_s - time.monotonic()
            if left_s <= 0:
                raise ProtocolError(
                    Reason.IDLE, f"nothing was said for {self._idle_timeout_s:g} s (dicom.idle_timeout)"
                )
            self._attend(left_s)
        return message

    def _attend(self, timeout_s: float) -> bool:
        """Read one PDU if one comes in time; return whether one came.

        Source: DICOM PS3.8 table 9-10 (events), 9.3.
        """
        if self._is_finished:
            raise _PeerFinished
        if not self._connection.wait(timeout_s):
            return False
        try:
            kind, body = self._connection.read_pdu()
        except ConnectionEnded:
            if self._abort_for is not None:
                raise
            self._is_finished = True
            raise _PeerFinished from None
        self._heard_at = time.monotonic()
        if kind == ABORT:
            raise PeerAborted
        if self._release_requested or kind not in {P_DATA, RELEASE_RQ}:
            raise ProtocolError(Reason.PROTOCOL, f"a PDU of type {kind:02X}H does not belong here")
        if kind == RELEASE_RQ:
            self._release_requested = True
            return True
        for context_id, control, fragment in presentation_values(body):
            if context_id not in self.contexts:
                text = f"its presentation context {context_id} was not accepted"
                raise ProtocolError(Reason.PROTOCOL, text)
            self._inbox.add(context_id, control, fragment)
        return True

    def _serve(self, message: Message) -> None:
        context, command = self.contexts[message.context_id], message.command
        for oddity in command.oddities:
            self._refusals.tolerate(self.peer, oddity)
        refusal = refusal_of(command, context.abstract_syntax)
        if refusal is not None:
            self._conclude(message, refusal)
        elif message.is_put_off:
            self._conclude(message, busy_refusal(command))
        elif len(message.data) <= LARGE_MESSAGE_BYTES:
            self._answer(message, context)
        elif not self._large_report_turn.acquire(timeout=LARGE_REPORT_WAIT_S):
            self._conclude(message, busy_refusal(command))
        else:
            try:
                self._answer(message, context)
            finally:
                self._large_report_turn.release()

    def _answer(self, message: Message, context: AcceptedContext) -> None:
        command = message.command
        refusal = excess_refusal(message, context)
        if refusal is not None:
            self._conclude(message, refusal)
        elif command.operation is Operation.C_ECHO:
            self._conclude(message, Ending(status=0))
        elif command.operation is Operation.C_FIND:
            exchange = Exchange(
                message, peer=self.peer, request=self.request, context=context, writer=self._writer_of(message),
                send=self._connection.send, look=self._look, note_refusal=self._note_refusal,
            )  # fmt: skip
            self._services.query(exchange)
            if exchange.failure is not None:
                raise exchange.failure
        elif self._services.report is not None:
            self._conclude(message, self._services.report(self._report_of(message, context)), is_told=True)

    def _report_of(self, message: Message, context: AcceptedContext) -> ReportRequest:
        return ReportRequest(
            operation=message.command.operation,
            peer=self.peer,
            caller=self.request.calling,
            instance_uid=message.command.instance_uid,
            data=message.data,
            explicit_vr=context.transfer_syntax == EXPLICIT_VR,
            attributes=message.command.attributes,
        )

    def _conclude(self, message: Message, ending: Ending, *, is_told: bool = False) -> None:
        self._connection.send(self._writer_of(message).ending(ending))
        self._note_refusal(message.command, ending, is_told=is_told)

    def _note_refusal(self, command: Command, ending: Ending, *, is_told: bool = False) -> None:
        """Count a refused message, and log it unless its service has."""
        if ending.status in _REFUSED or ending.error_id is not None:
            element = f"element {ending.tag:08X}: " if ending.tag else ""
            text = f"{command.operation} refused: status 0x{ending.status:04X}, {element}{ending.comment}"
            self._refusals.add(Reason.MESSAGE, self.peer, text, is_told=is_told)

    def _writer_of(self, message: Message) -> ResponseWriter:
        """Make what writes the responses to a request."""
        command = message.command
        return ResponseWriter(
            operation=command.operation,
            sop_class=command.sop_class or self.contexts[message.context_id].abstract_syntax,
            context_id=message.context_id,
            message_id=command.message_id or 0,
            max_length=self.request.max_length,
        )

    def _look(self, message_id: int) -> bool:
        """Read what the peer has sent meanwhile; return whether it has cancelled this request."""
        with contextlib.suppress(_PeerFinished):
            for _ in range(PDUS_PER_LOOK):
                if not self._attend(0):
                    break
        return self._inbox.is_cancelled(message_id)
