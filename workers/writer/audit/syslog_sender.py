"""Sends audit messages to a syslog server, from a thread of its own: a server that hangs delays nothing else.

Lives in the writer. While the server is away, a bounded number of messages waits and is tried again at least every 30
seconds; what does not fit is counted, logged and shown in `status --json`. A message counts as sent when the server's
machine has acknowledged it (TCP, TLS), or has not refused it (UDP); one of an interrupted connection is sent again.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import select
import socket
import ssl
import struct
import termios
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from itertools import islice

from pylantir.audit.syslog import frame
from pylantir.settings import SyslogServer
from workers.child.threads import start_thread

MAX_WAITING = 10_000
MAX_WAITING_BYTES = 32 * 1024 * 1024
RETRY_S = 1.0
RETRY_CAP_S = 30.0
TIMEOUT_S = 10.0
"""How long connecting, sending and the acknowledgement may take each."""
REFUSED_WITHIN_S = 0.1
"""How soon this machine or a near one says that nobody listens for UDP."""
TELL_LOST_EVERY_S = 60.0
_AT_ONCE = 64
_LOOK_EVERY_S = 0.01
_PARTS = 10

logger = logging.getLogger(__name__)


class SyslogSender:
    """The messages on their way. `send` is for any thread and never waits.

    Args:
        server: Where they go.
        tell: Called from the sender's thread with values for `status`.
    """

    def __init__(self, server: SyslogServer, tell: Callable[[Mapping[str, object]], None]) -> None:
        self._server = server
        self._tell = tell
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._changed = threading.Condition()
        self._closing = False
        self._lost = self._told_lost = 0
        self._told_at = float("-inf")
        self._trouble: str | None = None
        self._link: _Link | None = None
        # A daemon: a server that hangs must not keep the process from ending.
        self._thread = start_thread(self._run, name="audit messages")

    def send(self, message: bytes) -> None:
        """Put a message in line, or count it as lost if too many wait."""
        with self._changed:
            if len(self._waiting) >= MAX_WAITING or self._waiting_bytes + len(message) > MAX_WAITING_BYTES:
                self._lost += 1
                return
            self._waiting.append(message)
            self._waiting_bytes += len(message)
            self._changed.notify()

    def close(self, within_s: float) -> None:
        """Give the last messages a moment to leave."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        # In several parts: a machine that stands still for a moment takes one of them.
        for _ in range(_PARTS):
            self._thread.join(within_s / _PARTS)

    def _run(self) -> None:
        delay_s = RETRY_S
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                portion = list(islice(self._waiting, _AT_ONCE))
                if not portion:
                    return
            try:
                self._deliver(portion)
            except (OSError, ValueError) as error:
                # ValueError: a host name that cannot be encoded.
                self._drop_link()
                self._note_trouble(_reason(error))
                with self._changed:
                    self._changed.wait_for(lambda: self._closing, delay_s)
                    if self._closing:
                        return
                delay_s = min(2 * delay_s, RETRY_CAP_S)
            else:
                delay_s = RETRY_S
                with self._changed:
                    for message in portion:
                        self._waiting.popleft()
                        self._waiting_bytes -= len(message)
                self._note_trouble(None)
            self._tell_lost()

    def _deliver(self, portion: Sequence[bytes]) -> None:
        if self._link is not None and not self._link.is_open():
            self._drop_link()
        if self._link is None:
            self._link = _Link(self._server)
        too_long = self._link.send(portion)
        with self._changed:
            self._lost += too_long

    def _drop_link(self) -> None:
        if self._link is not None:
            self._link.close()
        self._link = None

    def _note_trouble(self, trouble: str | None) -> None:
        if (trouble is None) is not (self._trouble is None):
            if trouble is None:
                logger.info("%s takes audit messages again", self._server)
                self._tell({"warning": None})
            else:
                logger.warning("audit messages wait: %s: %s", self._server, trouble)
                self._tell({"warning": f"audit messages wait: {self._server}: {trouble}"})
        self._trouble = trouble

    def _tell_lost(self) -> None:
        lost, now = self._lost, time.monotonic()
        if lost != self._told_lost and now - self._told_at >= TELL_LOST_EVERY_S:
            logger.warning("%d audit messages are lost: %s has not taken them", lost - self._told_lost, self._server)
            self._told_lost, self._told_at = lost, now
            self._tell({"audit_lost": lost})


class _Link:
    """A connection to the server. Every method may raise OSError."""

    def __init__(self, server: SyslogServer) -> None:
        self._transport = server.transport
        if server.transport == "udp":
            family, kind, protocol, _, address = socket.getaddrinfo(server.host, server.port, type=socket.SOCK_DGRAM)[0]
            self._socket = socket.socket(family, kind, protocol)
            self._socket.connect(address)
        else:
            self._socket = socket.create_connection((server.host, server.port), TIMEOUT_S)
        try:
            self._socket.settimeout(TIMEOUT_S)
            if server.transport == "tls":
                self._socket = _make_context(server).wrap_socket(self._socket, server_hostname=server.host)
        except BaseException:
            self._socket.close()
            raise

    def is_open(self) -> bool:
        """Whether the server has not ended the connection meanwhile."""
        if self._transport == "udp":
            return True
        self._socket.setblocking(False)
        try:
            return bool(self._socket.recv(4096))
        except (BlockingIOError, ssl.SSLWantReadError):
            return True
        except OSError:
            return False
        finally:
            self._socket.settimeout(TIMEOUT_S)

    def send(self, portion: Sequence[bytes]) -> int:
        """Send messages, and see that they have arrived, as far as the transport tells.

        Returns:
            How many can never be sent.
        """
        if self._transport == "udp":
            return self._send_datagrams(portion)
        self._socket.sendall(b"".join(frame(message, self._transport) for message in portion))
        self._wait_for_acknowledgement()
        return 0

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def _send_datagrams(self, portion: Sequence[bytes]) -> int:
        too_long = 0
        for message in portion:
            try:
                self._socket.send(frame(message, "udp"))
            except OSError as error:
                if error.errno != errno.EMSGSIZE:
                    raise
                too_long += 1
                logger.warning("an audit message of %d bytes is too long for UDP; use tcp:// or tls://", len(message))
        if select.select([self._socket], [], [], REFUSED_WITHIN_S)[0]:
            # Raises ConnectionRefusedError where the answer was that nobody listens.
            self._socket.recv(1)
        return too_long

    def _wait_for_acknowledgement(self) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while struct.unpack("i", fcntl.ioctl(self._socket.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"))[0]:
            if time.monotonic() > deadline:
                raise TimeoutError("it does not acknowledge")
            time.sleep(_LOOK_EVERY_S)


def _make_context(server: SyslogServer) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=server.ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if server.certificate and server.key:
        # An encrypted key fails, instead of asking for a password at a terminal where nobody is.
        context.load_cert_chain(server.certificate, server.key, password="")
    return context


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return str(getattr(error, "verify_message", "") or error.reason or "TLS failed").lower().replace("_", " ")
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
