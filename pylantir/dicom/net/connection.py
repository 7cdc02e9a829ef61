"""The connection of an association: one that neither waits nor reads without end, whatever the peer announces.

Lives in the server process, in the association's thread. A connected socket comes in; protocol data units are read from
it and written to it within limits of size and time.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import time
from collections.abc import Callable
from typing import NoReturn

from pynetdicom.association import Association
from pynetdicom.transport import AssociationSocket

MAX_PDU_BYTES = 1024 * 1024
"""Longest PDU that is read; what we offer to receive is far less."""
PDU_TIMEOUT_S = 30.0
"""From the first byte of a PDU to its last, either way; when many are sent at once, of all of them."""
CONNECTION_CLOSED = "Evt17"
"""The event of PS3.8 table 9-10."""
_HEADER_BYTES = 6
# PS3.8 9.3.8: by the service provider, for no reason in particular.
_A_ABORT = bytes((0x07, 0, 0, 0, 0, 4, 0, 0, 2, 0))
_QUICKACK = getattr(socket, "TCP_QUICKACK", None)


class BoundedSocket(AssociationSocket):
    """A connection that neither waits nor reads without end."""

    def __init__(
        self, association: Association, connection: socket.socket, received: bytes, complain: Callable[[str], None]
    ) -> None:
        """Take over a connected socket.

        Args:
            association: Whose it becomes.
            connection: Blocking.
            received: What was read from it already.
            complain: Gets to know which rule the peer breaks.
        """
        super().__init__(association, client_socket=connection)
        self._received = received
        self._complain = complain
        self._deadline = 0.0
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)

    @property
    def ready(self) -> bool:
        """Whether there is something to read; unlike the base class's it works for any descriptor."""
        return self.wait(0)

    def wait(self, timeout_s: float) -> bool:
        """Wait until there is something to read, or the connection has ended; False if the time is over before."""
        connection = self.socket
        if connection is None:
            return False
        if self._received or (isinstance(connection, ssl.SSLSocket) and connection.pending()):
            return True
        return bool(self._poll.poll(timeout_s * 1000))

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
        """Send one or more PDUs, within `PDU_TIMEOUT_S`."""
        self._deadline = time.monotonic() + PDU_TIMEOUT_S
        unsent = memoryview(bytestream)
        try:
            while unsent:
                unsent = unsent[self._connection().send(unsent) :]
        except (OSError, ValueError):
            self.event_queue.put(CONNECTION_CLOSED)

    def stop_receiving(self) -> None:
        """Let whoever waits for the peer see the connection's end. For any thread."""
        self._shut(socket.SHUT_RD)

    def break_off(self) -> None:
        """End the connection for whoever reads from it or writes to it. For any thread."""
        self._shut(socket.SHUT_RDWR)

    def send_abort(self) -> None:
        """Tell the peer without the state machine, which cannot while it waits for the rest of a PDU."""
        if self.socket is not None:
            with contextlib.suppress(OSError, ValueError):
                self.socket.settimeout(0)
                self.socket.send(_A_ABORT)

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
        self._complain(f"aborted: {reason}")
        self.send_abort()
        raise ConnectionAbortedError

    def _shut(self, how: int) -> None:
        connection = self.socket
        if connection is not None:
            with contextlib.suppress(OSError, ValueError):
                # That of an SSLSocket would take its encryption away as well.
                socket.socket.shutdown(connection, how)

    def _shutdown_socket(self) -> None:
        connection = self.socket
        if connection is not None:
            with contextlib.suppress(OSError, ValueError):
                connection.shutdown(socket.SHUT_RDWR)
            # Closed even if it could not be shut down any more, as when the peer was first.
            connection.close()
