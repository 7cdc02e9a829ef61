"""Asks the server regularly for a C-ECHO, as a scanner would: its main loop's signs of life say nothing of its threads.

Lives in the supervisor, whose loop does not wait: it sends a C-ECHO of fixed bytes, and any answer is a sign of life,
even a refusal (the server may be full). After two silences in a row the supervisor must replace the server.

Source: DICOM PS3.8 9.3 (PDUs), PS3.7 9.3.5 (C-ECHO).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import hmac
import socket
import struct
from collections.abc import Iterator

PROBE_EVERY_S = 10.0
ANSWER_WITHIN_S = 5.0
SILENCES = 2
_CONNECT_WITHIN_S = 0.05
"""A connection within this machine takes no time unless the server has accepted none for long."""
_OUR_OWN_LACK = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL}
"""Errors that say nothing about the server: the supervisor itself has no descriptor, memory or port left."""
_ACCEPTED, _DATA = 0x02, 0x04
_VERIFICATION = b"1.2.840.10008.1.1"


def probe_title(key: bytes) -> str:
    """Return the AE title that the supervisor uses; nobody else knows it, because it depends on this run's key."""
    return "PYL-" + hmac.new(key, b"probe", hashlib.sha256).hexdigest()[:12].upper()


class ServerWatch:
    """The probes, one after the other.

    Args:
        address: Where the server listens, as `getsockname` gives it.
        called: The server's AE title.
        calling: The supervisor's.
        over_tls: The server uses TLS: we wait only for its first bytes, because it may demand a certificate from us.
    """

    def __init__(self, address: tuple[str | int, ...], called: str, calling: str, *, over_tls: bool = False) -> None:
        host, port = str(address[0]), int(address[1])
        self._address = ({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port)  # noqa: S104 - it is compared
        self._request = _client_hello() if over_tls else _association_request(called, calling)
        self._pid: int | None = None
        self._socket: socket.socket | None = None
        self._silences = 0
        self._at = 0.0

    def filenos(self) -> Iterator[int]:
        """What the supervisor's loop should wait for."""
        if self._socket:
            yield self._socket.fileno()

    def deadline(self) -> float | None:
        """When to act even if nothing comes in (monotonic seconds)."""
        return self._at if self._pid else None

    def serve(self, pid: int | None, now: float) -> bool:
        """Do what is due now; return whether the server has been silent for too long.

        Args:
            pid: The server's process, None while no process is ready.
            now: Monotonic seconds.
        """
        if pid != self._pid:
            self._pid, self._silences, self._at = pid, 0, now + PROBE_EVERY_S
            self.close()
        if self._socket:
            self._listen(self._socket, now)
        if not self._pid or now < self._at:
            return False
        if self._socket:
            self._note_silence(now)
        else:
            self._ask(now)
        if self._silences < SILENCES:
            return False
        self._silences, self._at = 0, now + PROBE_EVERY_S
        return True

    def close(self) -> None:
        """End a running probe."""
        if self._socket:
            self._socket.close()
            self._socket = None

    def _ask(self, now: float) -> None:
        try:
            self._socket = socket.create_connection(self._address, _CONNECT_WITHIN_S)
            self._socket.setblocking(False)
            self._socket.send(self._request)
        except OSError as error:
            if error.errno in _OUR_OWN_LACK:
                self._at = now + PROBE_EVERY_S
                return
            self._note_silence(now)
            self._at = now + ANSWER_WITHIN_S
        else:
            self._at = now + ANSWER_WITHIN_S

    def _listen(self, sock: socket.socket, now: float) -> None:
        """Read the answers; only an answered C-ECHO, not the accepted association, proves that a thread works."""
        try:
            answer = sock.recv(4096)
            if answer[:1] == bytes((_ACCEPTED,)):
                sock.send(_ECHO_REQUEST)
                return
            if answer[:1] == bytes((_DATA,)):
                sock.send(_RELEASE_REQUEST)
        except BlockingIOError:
            return
        except OSError:
            # A reset is an answer: a hanging process closes nothing.
            pass
        self.close()
        self._silences, self._at = 0, now + PROBE_EVERY_S

    def _note_silence(self, now: float) -> None:
        self.close()
        self._silences += 1
        self._at = now


def _item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(value)) + value


def _client_hello() -> bytes:
    # Imported here, because it takes megabytes that only TLS needs.
    import ssl

    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing).do_handshake()
    return outgoing.read()


def _association_request(called: str, calling: str) -> bytes:
    context = _item(0x30, _VERIFICATION) + _item(0x40, b"1.2.840.10008.1.2")
    user = _item(0x51, struct.pack(">I", 16384)) + _item(0x52, b"2.25.1")
    body = (
        struct.pack(">HH", 1, 0)
        + called.ljust(16).encode("ascii", "replace")
        + calling.ljust(16).encode("ascii")
        + bytes(32)
        + _item(0x10, b"1.2.840.10008.3.1.1.1")
        + _item(0x20, b"\x01\0\0\0" + context)
        + _item(0x50, user)
    )
    return struct.pack(">BxI", 1, len(body)) + body


def _echo_request() -> bytes:
    elements = struct.pack("<HHI", 0, 0x0002, 18) + _VERIFICATION + b"\0"
    for element, value in ((0x0100, 0x0030), (0x0110, 1), (0x0800, 0x0101)):
        elements += struct.pack("<HHIH", 0, element, 2, value)
    command = struct.pack("<HHII", 0, 0, 4, len(elements)) + elements
    return struct.pack(">BxIIBB", _DATA, len(command) + 6, len(command) + 2, 1, 0x03) + command


_ECHO_REQUEST = _echo_request()
_RELEASE_REQUEST = struct.pack(">BxII", 5, 4, 0)
