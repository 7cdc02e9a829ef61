"""Packs audit messages for syslog, and for the transport that carries them. Pure.

Source: RFC 5424 6 (the message), RFC 5426 3.1 (UDP), RFC 6587 3.4.1 and RFC 5425 4.3 (octet counting); PS3.15 A.6.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

_FACILITY_AUTHPRIV = 10
_NOTICE, _WARNING = 5, 4
_MESSAGE_ID = "DICOM+RFC3881"
_BOM = b"\xef\xbb\xbf"
_NOT_PRINTABLE = re.compile(r"[^!-~]")


def pack(message: str, *, moment: int, host: str, pid: int) -> bytes:
    """Write a syslog message.

    Args:
        message: XML.
        moment: When the event was, in microseconds since 1970.
        host: This machine.
        pid: The sending process.
    """
    severity = _NOTICE if 'EventOutcomeIndicator="0"' in message else _WARNING
    when = datetime.fromtimestamp(moment / 1_000_000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    host = _NOT_PRINTABLE.sub("", host)[:255] or "-"
    head = f"<{_FACILITY_AUTHPRIV * 8 + severity}>1 {when} {host} pylantir {pid} {_MESSAGE_ID} - "
    return head.encode("ascii") + _BOM + message.encode("utf-8")


def frame(packed: bytes, transport: str) -> bytes:
    """Write what goes onto the connection: for TCP and TLS the number of bytes first, for UDP one datagram."""
    if transport == "udp":
        return packed
    return f"{len(packed)} ".encode("ascii") + packed
