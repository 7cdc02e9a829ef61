"""Decides who gets an association, and how a request is rejected.

Lives in the server process. An association request and what is known of its sender come in, a verdict goes out.
Pure: no socket, no clock.

Source: DICOM PS3.8 9.3.2 (A-ASSOCIATE-RQ), 9.3.4 (A-ASSOCIATE-RJ), 9.3.8 (A-ABORT).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pylantir.certificates import PeerCertificate
from pylantir.dicom.net.negotiation import APPLICATION_CONTEXT, SHORTEST_REQUEST, AssociationRequest
from pylantir.dicom.net.pdus import ABORT, ASSOCIATE_RQ, HEADER_BYTES, abort, reject
from pylantir.dicom.net.refusals import Reason, shown
from pylantir.settings import DicomSettings

MAX_REQUEST_BYTES = 256 * 1024
"""Longest A-ASSOCIATE-RQ: 128 presentation contexts with every transfer syntax need a tenth of it."""

_APPLICATION_CONTEXT_UNKNOWN = (1, 1, 2)
_CALLING_TITLE_UNKNOWN = (1, 1, 3)
_CALLED_TITLE_UNKNOWN = (1, 1, 7)
_PROTOCOL_VERSION_UNKNOWN = (1, 2, 2)
_LOCAL_LIMIT_EXCEEDED = (2, 3, 2)
_TLS_HANDSHAKE = b"\x16\x03"
"""The beginning of a TLS record with a handshake message (RFC 8446 5.1)."""
_SHOWN_CHARACTERS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """The association is refused.

    Attributes:
        reply: The PDU to send: A-ASSOCIATE-RJ or A-ABORT; nothing for one that broke off.
        reason: What is counted.
        text: For the log.
    """

    reply: bytes
    reason: Reason
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Occupant:
    """An association that has a place.

    Attributes:
        host: Its peer's address.
        is_known: It belongs to a scanner with `host` in `modalities`.
        idle_since: When it did something last; later ones are greater.
    """

    host: str
    is_known: bool
    idle_since: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The association is admitted.

    Attributes:
        is_known: The request comes from a scanner with `host` in `modalities`.
        gives_way: Index of the association that has to end for it.
    """

    is_known: bool
    gives_way: int | None = None


class Admission:
    """The rules of one configuration."""

    def __init__(self, settings: DicomSettings) -> None:
        self._settings = settings
        self._networks = _networks(settings.allowed_hosts)
        self._homes = {title: _networks(profile.hosts) for title, profile in settings.profiles.items() if profile.hosts}

    def allows_host(self, host: str) -> bool:
        """Whether a host may connect at all. This machine always may: the supervisor looks after the server."""
        return not self._networks or _address(host).is_loopback or _is_in(host, self._networks)

    def is_home(self, host: str) -> bool:
        """Whether the configuration names a scanner with this address."""
        return any(_is_in(host, networks) for networks in self._homes.values())

    def announced_bytes(self, header: bytes) -> int | Refusal:
        """Read the header of a connection's first PDU: how many bytes follow it.

        An A-ABORT is answered with nothing, any other PDU with an A-ABORT.
        """
        kind, length = header[0], int.from_bytes(header[2:HEADER_BYTES], "big")
        if kind == ABORT:
            text = "it broke off before asking for an association"
            return Refusal(reply=b"", reason=Reason.ABORTED_BY_PEER, text=text)
        if header.startswith(_TLS_HANDSHAKE):
            text = "TLS refused: it speaks TLS, and dicom.tls is not configured"
            return Refusal(reply=abort(0), reason=Reason.TLS, text=text)
        if kind != ASSOCIATE_RQ:
            text = "what it sends is no DICOM association request"
            return Refusal(reply=abort(0), reason=Reason.NO_DICOM, text=text)
        if not SHORTEST_REQUEST <= length <= MAX_REQUEST_BYTES:
            text = f"its association request announces {length} bytes"
            return Refusal(reply=abort(0), reason=Reason.UNREADABLE_REQUEST, text=text)
        return length

    def decide(
        self,
        request: AssociationRequest,
        host: str,
        occupants: Sequence[Occupant],
        certificate: PeerCertificate | None = None,
    ) -> Place | Refusal:
        """Decide on an association request.

        Args:
            request: In one form.
            host: Its sender's address.
            occupants: The associations that there are.
            certificate: What its sender has shown.
        """
        refusal = self._check_protocol(request) or self._check_titles(request, host)
        refusal = refusal or self._check_certificate(request.calling, certificate)
        return refusal or self._find_place(request.calling, host, occupants)

    def _check_protocol(self, request: AssociationRequest) -> Refusal | None:
        if not request.protocol_version & 1:
            text = f"it speaks protocol version {request.protocol_version:04X}H, this server version 1"
            return _rejected(_PROTOCOL_VERSION_UNKNOWN, Reason.PROTOCOL_VERSION, text)
        if request.application_context != APPLICATION_CONTEXT:
            text = f"its application context is {request.application_context[:_SHOWN_CHARACTERS]!a}, not DICOM's"
            return _rejected(_APPLICATION_CONTEXT_UNKNOWN, Reason.APPLICATION_CONTEXT, text)
        return None

    def _check_titles(self, request: AssociationRequest, host: str) -> Refusal | None:
        settings, called, calling = self._settings, request.called, request.calling
        if not calling:
            return _rejected(_CALLING_TITLE_UNKNOWN, Reason.CALLING_TITLE, "its calling AE title is blank")
        if settings.check_called_aet and called != settings.ae_title:
            text = f'it calls "{shown(called)}", but this is {settings.ae_title}'
            return _rejected(_CALLED_TITLE_UNKNOWN, Reason.CALLED_TITLE, text)
        if settings.allowed_aet and calling not in settings.allowed_aet:
            text = f'"{shown(calling)}" is not in allowed_aet'
            return _rejected(_CALLING_TITLE_UNKNOWN, Reason.CALLING_TITLE, text)
        if calling in self._homes and not _is_in(host, self._homes[calling]):
            text = f'"{shown(calling)}" has another host in modalities'
            return _rejected(_CALLING_TITLE_UNKNOWN, Reason.CALLING_TITLE, text)
        return None

    def _check_certificate(self, calling: str, shown_one: PeerCertificate | None) -> Refusal | None:
        """Refuse an AE title that is bound to certificates unless its sender has shown one of them."""
        profile = self._settings.profiles.get(calling)
        wanted = profile.certificates if profile else ()
        if not wanted or (shown_one and any(certificate.fits(shown_one) for certificate in wanted)):
            return None
        found = f"it shows another one (SHA-256 {shown_one.fingerprint})" if shown_one else "it shows none"
        text = f'"{shown(calling)}" is bound to a certificate in modalities, and {found}'
        return _rejected(_CALLING_TITLE_UNKNOWN, Reason.CERTIFICATE, text)

    def _find_place(self, calling: str, host: str, occupants: Sequence[Occupant]) -> Place | Refusal:
        """A scanner with `host` in `modalities` always gets a place: whoever has been idle longest gives way to it."""
        settings = self._settings
        is_known = calling in self._homes
        at_home = [index for index, occupant in enumerate(occupants) if occupant.host == host]
        if len(occupants) >= settings.max_associations:
            text = f"there are {settings.max_associations} associations already"
            strangers = [index for index, occupant in enumerate(occupants) if not occupant.is_known]
            candidates: Sequence[int] = strangers or range(len(occupants))
        elif len(at_home) >= settings.max_associations_per_host:
            text = f"this host has {settings.max_associations_per_host} associations already"
            candidates = [index for index in at_home if not occupants[index].is_known] or at_home
        else:
            return Place(is_known=is_known)
        if not is_known:
            return _rejected(_LOCAL_LIMIT_EXCEEDED, Reason.NO_PLACE, text)
        longest_idle = min(candidates, key=lambda index: occupants[index].idle_since, default=None)
        return Place(is_known=True, gives_way=longest_idle)


_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _networks(written: Iterable[str]) -> tuple[_Network, ...]:
    return tuple(ipaddress.ip_network(network, strict=False) for network in written)


def _address(host: str) -> _Address:
    address = ipaddress.ip_address(host.partition("%")[0])
    # A socket for both families shows an IPv4 peer as ::ffff:10.1.2.3.
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _is_in(host: str, networks: Iterable[_Network]) -> bool:
    address = _address(host)
    return any(address in network for network in networks)


def _rejected(reply: tuple[int, int, int], reason: Reason, text: str) -> Refusal:
    return Refusal(reply=reject(*reply), reason=reason, text=f"refused: {text}")
