"""A worklist query on an association, and the way back for its answers. Lives in the association's thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pylantir.dicom.net.commands import Command, Ending, ResponseWriter
from pylantir.dicom.net.connection import ConnectionEnded, PeerAborted
from pylantir.dicom.net.messages import Message
from pylantir.dicom.net.negotiation import AcceptedContext, AssociationRequest
from pylantir.dicom.net.refusals import Peer, ProtocolError
from pylantir.dicom.net.services import EXPLICIT_VR, FindExchange

SEND_FROM_BYTES = 64 * 1024
"""Responses are gathered up to this size, then sent in one write: few writes, and bounded memory."""


class Exchange(FindExchange):
    """A worklist query and the way back. It keeps an error that ends the association until the service returns.

    Args:
        message: The request.
        peer: Who asks.
        request: The request for the association on which it asks.
        context: The presentation context on which it asks.
        writer: Writes the responses.
        send: Sends PDUs.
        look: Reads what the peer has sent meanwhile, and returns whether it has cancelled a request, by its message ID.
        note_refusal: Called if the last response refuses the request.

    Attributes:
        failure: What ends the association; None: nothing yet.
    """

    def __init__(
        self,
        message: Message,
        *,
        peer: Peer,
        request: AssociationRequest,
        context: AcceptedContext,
        writer: ResponseWriter,
        send: Callable[[bytes], None],
        look: Callable[[int], bool],
        note_refusal: Callable[[Command, Ending], None],
    ) -> None:
        self.peer = peer
        self.request = request
        self.caller = request.calling
        self.context = context
        self.identifier = message.data
        self.explicit_vr = context.transfer_syntax == EXPLICIT_VR
        self.failure: Exception | None = None
        self._command = message.command
        self._writer = writer
        self._send = send
        self._look = look
        self._note_refusal = note_refusal
        self._pieces: list[bytes] = []
        self._gathered_bytes = 0

    def send(self, identifiers: Sequence[bytes], status: int) -> None:
        """Send pending responses, with others in one write."""
        pieces = self._writer.pending(identifiers, status)
        self._pieces += pieces
        self._gathered_bytes += sum(map(len, pieces))
        if self._gathered_bytes >= SEND_FROM_BYTES:
            self._flush()

    def conclude(self, ending: Ending) -> bool:
        """Send the last response."""
        self._pieces.append(self._writer.ending(ending))
        self._flush()
        self._note_refusal(self._command, ending)
        return self.failure is None

    def is_cancelled(self) -> bool:
        """Read what the peer has sent meanwhile; return whether it has cancelled this query."""
        try:
            return self.failure is None and self._look(self._command.message_id or 0)
        except (ConnectionEnded, ProtocolError, PeerAborted) as error:
            self.failure = error
            return False

    def is_over(self) -> bool:
        """Whether nobody is left to answer."""
        return self.failure is not None

    def _flush(self) -> None:
        if self.failure is None:
            try:
                self._send(b"".join(self._pieces))
            except ConnectionEnded as error:
                self.failure = error
        self._pieces, self._gathered_bytes = [], 0
