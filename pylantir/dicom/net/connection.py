"""The connection of an association, with limits on waiting and reading that no peer can exceed.

Lives in the server process, in the association's thread. A connected socket comes in; protocol data units are read from
it and written to it within limits of size and time.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import time

from pylantir.dicom.net.pdus import HEADER_BYTES
from pylantir.dicom.net.refusals import ProtocolError, Reason

MAX_PDU_BYTES = 1024 * 1024
"""Longest PDU that is read; what we offer to receive is far less."""
PDU_TIMEOUT_S = 30.0
"""From the first byte of a PDU to its last, either way; when many are sent at once, of all of them."""
LINGER_S = 1.0
"""How long the server waits for a peer to hang up after an A-ABORT, so that the A-ABORT arrives."""
_QUICKACK = getattr(socket, "TCP_QUICKACK", None)


class ConnectionEnded(Exception):
    """The peer has closed the connection, or it is broken."""


class PeerAborted(Exception):
    """The peer has sent an A-ABORT."""


class Connection:
    """A connection that neither waits nor reads without end.

    Args:
        connected: Blocking.
    """

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._deadline = 0.0
        self._poll = select.poll()
        self._poll.register(connected, select.POLLIN)

    def wait(self, timeout_s: float) -> bool:
        """Wait until there is something to read, or the connection has ended; False if the time is over before."""
        if isinstance(self._socket, ssl.SSLSocket) and self._socket.pending():
            return True
        return bool(self._poll.poll(timeout_s * 1000))

    def read_pdu(self) -> tuple[int, bytes]:
        """Read one PDU within `PDU_TIMEOUT_S`: its type, and what follows its header.

        Raises:
            ConnectionEnded: There is no more.
            ProtocolError: It is too long or too slow.
        """
        self._deadline = time.monotonic() + PDU_TIMEOUT_S
        header = self._read(HEADER_BYTES)
        length = int.from_bytes(header[2:], "big")
        if length > MAX_PDU_BYTES:
            raise ProtocolError(Reason.LIMIT, f"it announces a PDU of {length} bytes")
        return header[0], self._read(length)

    def send(self, data: bytes) -> None:
        """Send one or more PDUs, within `PDU_TIMEOUT_S`.

        Raises:
            ConnectionEnded: The peer does not take them.
        """
        self._deadline = time.monotonic() + PDU_TIMEOUT_S
        unsent = memoryview(data)
        try:
            while unsent:
                self._limit_wait()
                unsent = unsent[self._socket.send(unsent) :]
        except (OSError, ValueError) as error:
            raise ConnectionEnded from error

    def stop_receiving(self) -> None:
        """Wake the thread that waits for the peer: it sees the connection end. For any thread."""
        self._shut(socket.SHUT_RD)

    def break_off(self) -> None:
        """End the connection for whoever reads from it or writes to it. For any thread."""
        self._shut(socket.SHUT_RDWR)

    def send_last(self, data: bytes) -> None:
        """Send an A-ABORT if the peer takes it at once, and give it the time to read it.

        If it were closed with unread data, the connection would be reset and the A-ABORT lost.
        """
        deadline = time.monotonic() + LINGER_S
        with contextlib.suppress(OSError, ValueError):
            self._socket.settimeout(0)
            self._socket.send(data)
            self._shut(socket.SHUT_WR)
            while (left_s := deadline - time.monotonic()) > 0:
                self._socket.settimeout(left_s)
                if not self._socket.recv(65536):
                    return

    def close(self) -> None:
        """Give the descriptor back."""
        self._shut(socket.SHUT_RDWR)
        self._socket.close()

    def _read(self, length: int) -> bytes:
        data = bytearray()
        while len(data) < length:
            try:
                self._limit_wait()
                if _QUICKACK is not None:
                    # A client that sends header and body apart would wait for our delayed acknowledgement.
                    self._socket.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
                part = self._socket.recv(min(length - len(data), 65536))
            except TimeoutError:
                raise ProtocolError(Reason.TOO_SLOW, f"a PDU took more than {PDU_TIMEOUT_S:.0f} s") from None
            except (OSError, ValueError) as error:
                raise ConnectionEnded from error
            if not part:
                raise ConnectionEnded
            data += part
        return bytes(data)

    def _limit_wait(self) -> None:
        left_s = self._deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        self._socket.settimeout(left_s)

    def _shut(self, how: int) -> None:
        with contextlib.suppress(OSError, ValueError):
            # The shutdown of an SSLSocket would take its encryption away as well.
            socket.socket.shutdown(self._socket, how)
