"""Opens the instance's ports. The supervisor holds them, so that clients wait in a queue while a process restarts."""

from __future__ import annotations

import errno
import socket

import psutil

from pylantir.errors import PylantirError
from pylantir.ipc.sockets import BACKLOG
from pylantir.settings import DicomSettings, HttpSettings


def listen_for_browsers(settings: HttpSettings | None) -> socket.socket | None:
    """Bind the port of `http`, if there is such a section.

    Raises:
        PylantirError: The port cannot be bound; the message says what to do.
    """
    return _listen(settings.host, settings.port, "http") if settings else None


def listen_for_scanners(settings: DicomSettings) -> socket.socket:
    """Bind the worklist's port.

    Raises:
        PylantirError: The port cannot be bound; the message says why, and what to do about it.
    """
    return _listen(settings.host, settings.port, "dicom")


def _listen(host: str, port: int, section: str) -> socket.socket:
    family, address = _resolve(host, section)
    try:
        return socket.create_server((address, port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        msg = f"cannot listen on {host} port {port}: {explain(error, host, port, section)}"
        raise PylantirError(msg) from None


def find_host(host: str, section: str) -> str | None:
    """Say what is wrong with the `host` of a section on this machine, if anything; no port is bound."""
    try:
        family, address = _resolve(host, section)
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((address, 0))
    except PylantirError as error:
        return str(error)
    except OSError as error:
        return explain(error, host, 0, section)
    return None


def explain(error: Exception, host: str, port: int, section: str) -> str:
    """Say why an address cannot be bound, and what to do."""
    match getattr(error, "errno", None):
        case errno.EACCES | errno.EPERM:
            return (
                f"{error}; ports below 1024 need a privilege: under systemd AmbientCapabilities=CAP_NET_BIND_SERVICE, "
                f"else `sysctl net.ipv4.ip_unprivileged_port_start={port}`, or set another {section}.port"
            )
        case errno.EADDRNOTAVAIL:
            return (
                f"{host} is no address of this machine; set {section}.host to one of "
                f"{', '.join(_own_addresses())}, or to 0.0.0.0 for all of them"
            )
        case errno.EADDRINUSE:
            return f"{error}; stop the program that uses the port, or set another {section}.port"
        case _:
            return f"{error}; look at {section}.host and {section}.port"


def _resolve(host: str, section: str) -> tuple[socket.AddressFamily, str]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no host name"
        msg = f"the host {host} is not known: {reason}; set {section}.host to an address of this machine, or to 0.0.0.0"
        raise PylantirError(msg) from None
    # A name may have IPv4 and IPv6 addresses: scanners use IPv4.
    family, _, _, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
    return family, str(address[0])


def _own_addresses() -> list[str]:
    families = {socket.AF_INET, socket.AF_INET6}
    found = [one.address for each in psutil.net_if_addrs().values() for one in each if one.family in families]
    return sorted({address for address in found if not address.startswith("fe80")})
