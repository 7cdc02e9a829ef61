"""Who gets an association, and what anybody else is told.

Lives in the server process. The bytes of an A-ASSOCIATE-RQ and what is known of its sender come in, a verdict goes out.
Pure: no socket, no clock.

Source: DICOM PS3.8 9.3.2 (A-ASSOCIATE-RQ), 9.3.4 (A-ASSOCIATE-RJ), 9.3.8 (A-ABORT).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pylantir.settings import DicomSettings

HEADER_BYTES = 6
MAX_REQUEST_BYTES = 256 * 1024
"""Longest A-ASSOCIATE-RQ: 128 presentation contexts with every transfer syntax need a tenth of it."""

_ASSOCIATE_RQ = 0x01
_ABORT = 0x07
_SHORTEST_REQUEST = 68
_CALLED = slice(10, 26)
_CALLING = slice(26, 42)
_ABORTED_BY_US = bytes((_ABORT, 0, 0, 0, 0, 4, 0, 0, 0, 0))

_CALLING_TITLE_UNKNOWN = (1, 1, 3)
_CALLED_TITLE_UNKNOWN = (1, 1, 7)
_LOCAL_LIMIT_EXCEEDED = (2, 3, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """No.

    Attributes:
        reply: The PDU to send: A-ASSOCIATE-RJ or A-ABORT; nothing for one that broke off.
        reason: For the log.
    """

    reply: bytes
    reason: str


class Admission:
    """The rules of one configuration."""

    def __init__(self, settings: DicomSettings) -> None:
        self._settings = settings
        self._networks = _networks(settings.allowed_hosts)
        self._homes = {title: _networks(profile.hosts) for title, profile in settings.profiles.items() if profile.hosts}

    def allows_host(self, host: str) -> bool:
        """Whether a host may connect at all. This machine always may: the supervisor looks after the server."""
        return not self._networks or _address(host).is_loopback or _is_in(host, self._networks)

    def announced_bytes(self, header: bytes) -> int | Refusal:
        """Read the header of a connection's first PDU: how many bytes follow it.

        An A-ABORT is answered with nothing, any other PDU with an A-ABORT.
        """
        kind, length = header[0], int.from_bytes(header[2:HEADER_BYTES], "big")
        if kind == _ABORT:
            return Refusal(reply=b"", reason="it broke off before asking for an association")
        if kind != _ASSOCIATE_RQ:
            return Refusal(reply=_ABORTED_BY_US, reason="what it sends is no DICOM association request")
        if not _SHORTEST_REQUEST <= length <= MAX_REQUEST_BYTES:
            return Refusal(reply=_ABORTED_BY_US, reason=f"its association request announces {length} bytes")
        return length

    def check_request(self, request: bytes, host: str, active: Mapping[str, int]) -> Refusal | None:
        """Decide on a whole A-ASSOCIATE-RQ.

        Args:
            request: The PDU with its header.
            host: Its sender's address.
            active: Address -> associations that it has already.
        """
        settings = self._settings
        called, calling = _title(request[_CALLED]), _title(request[_CALLING])
        if settings.check_called_aet and called != settings.ae_title:
            return _rejected(_CALLED_TITLE_UNKNOWN, f"it calls {called!a}, but this is {settings.ae_title}")
        if settings.allowed_aet and calling not in settings.allowed_aet:
            return _rejected(_CALLING_TITLE_UNKNOWN, f"{calling!a} is not in allowed_aet")
        if calling in self._homes and not _is_in(host, self._homes[calling]):
            return _rejected(_CALLING_TITLE_UNKNOWN, f"{calling!a} has another host in modalities")
        if sum(active.values()) >= settings.max_associations:
            return _rejected(_LOCAL_LIMIT_EXCEEDED, f"there are {settings.max_associations} associations already")
        if active.get(host, 0) >= settings.max_associations_per_host:
            limit = settings.max_associations_per_host
            return _rejected(_LOCAL_LIMIT_EXCEEDED, f"this host has {limit} associations already")
        return None


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


def _title(field: bytes) -> str:
    return field.decode("ascii", "replace").strip(" \0")


def _rejected(reason: tuple[int, int, int], text: str) -> Refusal:
    return Refusal(reply=bytes((0x03, 0, 0, 0, 0, 4, 0, *reason)), reason=text)
