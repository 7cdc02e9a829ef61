"""The layers below an association's services, without a thread and within bounds.

Lives in the server process, in the association's thread. pynetdicom gives each association a second thread, and both
look around every millisecond; here the association's own thread waits for the peer, so that an idle association costs
nothing. PDUs come in from the connection; messages of bounded size, number and duration go out, and whatever the
services have to say goes back.

Source: DICOM PS3.8 9.2 (the state machine, which stays pynetdicom's), PS3.7 6.3 (messages).
"""

from __future__ import annotations

import contextlib
import queue
import time
from typing import TYPE_CHECKING

from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import DIMSEMessage
from pynetdicom.dimse_primitives import C_CANCEL
from pynetdicom.dul import DULServiceProvider
from pynetdicom.pdu_primitives import A_ABORT, A_ASSOCIATE, A_P_ABORT, A_RELEASE, P_DATA

from pylantir.dicom.net.connection import BoundedSocket

if TYPE_CHECKING:
    from pylantir.dicom.net.association import BoundedAssociation

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
MAX_WAITING_MESSAGES = 16
MAX_CANCELS = 10
MESSAGE_TIMEOUT_S = 60.0
# Events of PS3.8 table 9-10.
_ARTIM_EXPIRED = "Evt18"
_INVALID_PDU = "Evt19"
_CLOSING = "Sta13"
_IDLE = "Sta1"

UpperLayerPrimitive = A_ASSOCIATE | A_RELEASE | A_ABORT | A_P_ABORT


class ThreadlessProvider(DULServiceProvider):
    """The upper layer's state machine, driven by the association's thread."""

    assoc: BoundedAssociation
    socket: BoundedSocket

    def start(self) -> None:
        """Begin; not a thread."""
        self._idle_timer.start()
        self.assoc._dul_ready.set()  # noqa: SLF001 - what the base class does first in its thread

    def is_alive(self) -> bool:
        """Whether the association can still go on."""
        return not self._kill_thread

    def stop_dul(self) -> bool:
        """There is no thread to wait for: what is left to be said is said by `finish`."""
        return True

    def receive_pdu(self, wait: bool = False, timeout: float | None = None) -> UpperLayerPrimitive | None:
        """Give the next primitive for association control, None if there is none (in time, or ever)."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while wait and self.is_alive() and self.to_user_queue.empty() and not self.assoc.is_to_abort:
            left_s = None if deadline is None else deadline - time.monotonic()
            if left_s is not None and left_s <= 0:
                return None
            self.attend(left_s)
        primitive: UpperLayerPrimitive | None = super().receive_pdu(wait=False)
        return primitive

    def idle_s_left(self) -> float | None:
        """How long the peer may go on saying nothing; None: for ever."""
        return None if self._idle_timer.timeout is None else float(self._idle_timer.remaining)

    def restart_idle_timer(self) -> None:
        """Begin to wait anew."""
        self._idle_timer.restart()

    def attend(self, timeout_s: float | None) -> bool:
        """Do the next thing that is due; if there is none, wait so long for the peer. Whether there was one.

        Source: DICOM PS3.8 9.2.2 (events and actions).
        """
        if not self.is_alive():
            return False
        if self.artim_timer.expired:
            self.event_queue.put(_ARTIM_EXPIRED)
        elif not self._process_recv_primitive() and self.event_queue.empty():
            is_closing = self.state_machine.current_state == _CLOSING
            if not is_closing and not self.socket.wait(86400.0 if timeout_s is None else timeout_s):
                return False
            if self.assoc.is_to_abort and not is_closing:
                # What looks like the connection's end is the call to end it.
                return False
            if self._is_transport_event():
                self._idle_timer.restart()
        with contextlib.suppress(queue.Empty):
            self.state_machine.do_action(self.event_queue.get(block=False))
        return True

    def attend_to_all(self, at_most: int) -> None:
        """Do what is due just now, without waiting for more."""
        for _ in range(at_most):
            if not self.attend(0):
                return

    def finish(self, timeout_s: float) -> None:
        """Say what is left to be said: a rejection, the end of a release, an abort."""
        deadline = time.monotonic() + timeout_s
        while self.state_machine.current_state != _IDLE and self.attend(max(0.0, deadline - time.monotonic())):
            pass


class BoundedMessages(DIMSEServiceProvider):
    """Messages of bounded size, number and duration."""

    assoc: BoundedAssociation
    _started_at = 0.0

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Add a fragment to the message; ends the association of a peer that breaks the rules."""
        if self.message is None:
            self.message = DIMSEMessage()
            self._started_at = time.monotonic()
        try:
            if self.message.decode_msg(primitive, self.assoc):
                self._put_in_line(self.message)
                self.message = None
            problem = self._problem()
        except Exception as error:  # noqa: BLE001 - pynetdicom decodes here, and a stranger's bytes raise anything
            problem = f"its message cannot be read ({type(error).__name__})"
        if problem:
            self.message = None
            self.assoc.complain(f"aborted: {problem}")
            self.dul.event_queue.put(_INVALID_PDU)

    def _put_in_line(self, message: DIMSEMessage) -> None:
        """Keep a whole message for the association, which serves one after the other; a C-CANCEL overtakes."""
        request = message.message_to_primitive()
        if isinstance(request, C_CANCEL):
            if len(self.cancel_req) < MAX_CANCELS and request.MessageIDBeingRespondedTo is not None:
                self.cancel_req[request.MessageIDBeingRespondedTo] = request
        elif message.context_id is not None:
            self.msg_queue.put((message.context_id, request))

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
