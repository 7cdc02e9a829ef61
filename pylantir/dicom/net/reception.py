"""Receiving connections until they have asked for an association: without a thread, bounded in number and in time.

Lives in the server process's main loop, which watches one descriptor. Connections come in; sockets with a complete and
admissible A-ASSOCIATE-RQ go out. Whoever connects and leaves again, as health checks do, costs nothing and is not
logged.
"""

from __future__ import annotations

import errno
import logging
import selectors
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from pylantir.certificates import PeerCertificate
from pylantir.dicom.net.admission import Admission, Place, Refusal
from pylantir.dicom.net.negotiation import AssociationRequest, read_request, titles_of
from pylantir.dicom.net.pdus import HEADER_BYTES, abort
from pylantir.dicom.net.refusals import Peer, ProtocolError, Reason, Refusals
from pylantir.dicom.tls import certificate_of
from pylantir.errors import frames_of

logger = logging.getLogger(__name__)

REQUEST_TIMEOUT_S = 10.0
"""From the connection to the end of the association request, the TLS handshake included."""
LEAVE_TIMEOUT_S = 2.0
"""How long the server waits for a refused peer to hang up, so that the refusal arrives."""
MAX_GUESTS = 128
ACCEPTS_PER_TURN = 64
NO_RESOURCES_PAUSE_S = 0.2
_TITLES_READ_BYTES = HEADER_BYTES + 36
_NO_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

_NO_TLS_RECORD = "WRONG_VERSION_NUMBER"
"""OpenSSL's reason where the first bytes, a version among them, are not those of TLS."""

Secure = Callable[[socket.socket], ssl.SSLSocket]
Decide = Callable[[AssociationRequest, str, PeerCertificate | None], Place | Refusal]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A connection (blocking) whose association request has been admitted."""

    connection: socket.socket
    peer: Peer
    request: AssociationRequest
    is_known: bool


HandOver = Callable[[Arrival], None]


class _Guest:
    """A connection that has not been admitted yet."""

    __slots__ = ("address", "deadline", "in_handshake", "leaving", "needed", "received", "socket")

    def __init__(self, connection: socket.socket, address: Any, deadline: float) -> None:
        self.socket = connection
        self.address = address
        self.deadline = deadline
        self.in_handshake = isinstance(connection, ssl.SSLSocket)
        self.leaving = False
        self.needed = HEADER_BYTES
        self.received = bytearray()

    @property
    def host(self) -> str:
        return str(self.address[0])

    @property
    def peer(self) -> Peer:
        """Who it is, with the AE titles once they have come."""
        if len(self.received) < _TITLES_READ_BYTES:
            return Peer(host=self.host)
        called, calling = titles_of(bytes(self.received))
        return Peer(host=self.host, calling=calling, called=called)


class Reception:
    """The pool of connections without an association. When it is full, the oldest gives way."""

    def __init__(
        self,
        listener: socket.socket,
        admission: Admission,
        refusals: Refusals,
        *,
        decide: Decide,
        hand_over: HandOver,
        secure: Secure | None = None,
    ) -> None:
        """Prepare to receive; nothing is accepted before `serve`.

        Args:
            listener: Bound and listening; becomes non-blocking.
            admission: Which addresses may connect, and what is an association request.
            refusals: Gets to know who was refused, and why.
            decide: Decides on a whole request from an address, with the certificate that was shown.
            hand_over: Gets what was admitted.
            secure: Begins a TLS handshake on a new connection; may raise OSError. None: no TLS.
        """
        self._listener = listener
        self._admission = admission
        self._refusals = refusals
        self._decide = decide
        self._hand_over = hand_over
        self._secure = secure
        self._selector = selectors.DefaultSelector()
        self._guests: dict[socket.socket, _Guest] = {}
        self._accept_again_at: float | None = None
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ)

    def fileno(self) -> int:
        """One descriptor for the listener and all guests: readable when `serve` has something to do."""
        descriptor: int = self._selector.fileno()
        return descriptor

    def pause_s(self) -> float | None:
        """Seconds until `serve` has something to do even without network traffic; None: never."""
        deadlines = [guest.deadline for guest in self._guests.values()]
        if self._accept_again_at is not None:
            deadlines.append(self._accept_again_at)
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None

    def serve(self) -> None:
        """Accept, read and send away whatever is due. Never blocks."""
        now = time.monotonic()
        if self._accept_again_at is not None and now >= self._accept_again_at:
            self._accept_again_at = None
            self._selector.register(self._listener, selectors.EVENT_READ)
        for key, _ in self._selector.select(0):
            if key.fileobj is self._listener:
                self._accept(now)
            elif (guest := self._guests.get(key.fileobj)) is not None:  # type: ignore[call-overload]
                self._attend_safely(guest, now)
        for guest in [guest for guest in self._guests.values() if now >= guest.deadline]:
            if guest.received and not guest.leaving:
                text = f"no association request within {REQUEST_TIMEOUT_S:.0f} s"
                self._refusals.add(Reason.TOO_SLOW, guest.peer, text)
            self._dismiss(guest)

    def close(self) -> None:
        """Send everybody away and stop accepting."""
        for guest in list(self._guests.values()):
            self._dismiss(guest)
        self._selector.close()
        self._listener.close()

    def __len__(self) -> int:
        return len(self._guests)

    def _accept(self, now: float) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            try:
                connection, address = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _NO_RESOURCES:
                    self._make_room(now)
                    return
                continue
            self._receive(connection, address, now)

    def _make_room(self, now: float) -> None:
        """Close the oldest guest, and stop watching the listener for a moment, because it would stay readable."""
        nobody = Peer(host="anywhere")
        self._refusals.add(Reason.NO_PLACE, nobody, "not accepted: this process has no file descriptors left")
        if self._guests:
            self._send_one_away()
        self._selector.unregister(self._listener)
        self._accept_again_at = now + NO_RESOURCES_PAUSE_S

    def _send_one_away(self) -> None:
        """Close the oldest guest; one from a scanner's address only if there is no other."""
        strangers = (guest for guest in self._guests.values() if not self._admission.is_home(guest.host))
        guest = next(strangers, next(iter(self._guests.values())))
        if guest.received and not guest.leaving:
            self._refusals.add(Reason.NO_PLACE, guest.peer, "closed: it was slow, and newer connections need its place")
        self._dismiss(guest)

    def _receive(self, connection: socket.socket, address: Any, now: float) -> None:
        host = str(address[0])
        if not self._admission.allows_host(host):
            self._refusals.add(Reason.HOST, Peer(host=host), "refused: not in allowed_hosts")
            connection.close()
            return
        connection.setblocking(False)
        try:
            # Header and body of a response are two writes: with Nagle's algorithm each pair costs a delayed
            # acknowledgement.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._secure is not None:
                connection = self._secure(connection)
        except OSError as error:
            self._refusals.add(Reason.TLS, Peer(host=host), f"closed: {error.strerror or error}")
            connection.close()
            return
        if len(self._guests) >= MAX_GUESTS:
            self._send_one_away()
        self._guests[connection] = _Guest(connection, address, now + REQUEST_TIMEOUT_S)
        self._selector.register(connection, selectors.EVENT_READ)

    def _attend_safely(self, guest: _Guest, now: float) -> None:
        try:
            self._attend(guest, now)
        except Exception as error:  # noqa: BLE001 - last resort: it is this connection's failure and nobody else's
            frames = frames_of(error)
            logger.error("connection from %s failed: %s\n%s", guest.host, type(error).__name__, frames)  # noqa: TRY400
            self._refusals.add(Reason.INTERNAL, guest.peer, "closed: internal error", is_told=True)
            self._dismiss(guest)

    def _attend(self, guest: _Guest, now: float) -> None:
        try:
            if guest.in_handshake:
                self._shake_hands(guest)
            while not guest.in_handshake and guest.socket in self._guests:
                self._read(guest, now)
        except (BlockingIOError, ssl.SSLWantReadError):
            self._selector.modify(guest.socket, selectors.EVENT_READ)
        except ssl.SSLWantWriteError:
            self._selector.modify(guest.socket, selectors.EVENT_WRITE)
        except ssl.SSLError as error:
            # A peer that hangs up during the handshake is a health check.
            if not isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
                reason = getattr(error, "verify_message", "") or error.reason or "not understood"
                words = reason.lower().replace("_", " ")
                plain = ": it speaks no TLS" if error.reason == _NO_TLS_RECORD else ""
                self._refusals.add(Reason.TLS, guest.peer, f"TLS refused: {words}{plain}")
            self._dismiss(guest)
        except OSError:
            self._dismiss(guest)

    def _shake_hands(self, guest: _Guest) -> None:
        assert isinstance(guest.socket, ssl.SSLSocket)  # noqa: S101 - that is what in_handshake means
        guest.socket.do_handshake()
        guest.in_handshake = False

    def _read(self, guest: _Guest, now: float) -> None:
        """Read what is missing, and act when it is there.

        Raises:
            OSError: The connection is broken, or there is nothing to read just now.
        """
        data = guest.socket.recv(guest.needed - len(guest.received) if not guest.leaving else 4096)
        if not data:
            if guest.received and not guest.leaving:
                text = "it hung up in the middle of its association request"
                self._refusals.add(Reason.ABORTED_BY_PEER, guest.peer, text)
            self._dismiss(guest)
        elif not guest.leaving:
            guest.received += data
            if len(guest.received) == guest.needed:
                self._advance(guest, now)

    def _advance(self, guest: _Guest, now: float) -> None:
        if guest.needed == HEADER_BYTES:
            announced = self._admission.announced_bytes(bytes(guest.received))
            if isinstance(announced, Refusal):
                self._refuse(guest, announced, now)
            else:
                guest.needed += announced
            return
        try:
            request = read_request(bytes(guest.received))
        except ProtocolError as error:
            refusal = Refusal(reply=abort(), reason=error.reason, text=f"aborted: {error}")
            self._refuse(guest, refusal, now)
            return
        certificate = certificate_of(guest.socket)
        verdict = self._decide(request, guest.host, certificate)
        if isinstance(verdict, Refusal):
            self._refuse(guest, verdict, now)
            return
        peer = replace(guest.peer, certificate=certificate.name if certificate else None)
        self._forget(guest)
        guest.socket.setblocking(True)
        self._hand_over(Arrival(connection=guest.socket, peer=peer, request=request, is_known=verdict.is_known))

    def _refuse(self, guest: _Guest, refusal: Refusal, now: float) -> None:
        """Answer, and wait for the peer to hang up: if we closed at once, the answer might be lost."""
        self._refusals.add(refusal.reason, guest.peer, refusal.text)
        if not refusal.reply:
            self._dismiss(guest)
            return
        guest.socket.send(refusal.reply)
        guest.leaving = True
        guest.deadline = now + LEAVE_TIMEOUT_S

    def _forget(self, guest: _Guest) -> None:
        del self._guests[guest.socket]
        self._selector.unregister(guest.socket)

    def _dismiss(self, guest: _Guest) -> None:
        if guest.socket in self._guests:
            self._forget(guest)
            guest.socket.close()
