"""Reads the URL of a syslog server. Imports no pydantic."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from pylantir.settings import SyslogServer

EXPECTED_SYSLOG = 'a syslog server such as "udp://HOST:514", "tcp://HOST:601" or "tls://HOST:6514"'
DEFAULT_PORTS = {"udp": 514, "tcp": 601, "tls": 6514}
"""RFC 5426 3.3, RFC 6587 1, RFC 5425 4.1."""


def read_syslog_url(url: str) -> SyslogServer:
    """Read where audit messages go.

    Raises:
        ValueError: It is no URL of such a server.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    is_plain = "@" not in parts.netloc and parts.path in {"", "/"} and not parts.query and not parts.fragment
    if parts.scheme not in DEFAULT_PORTS or not re.fullmatch(r"[\w.:%-]+", host) or not is_plain:
        raise ValueError(EXPECTED_SYSLOG)
    port = DEFAULT_PORTS[parts.scheme] if parts.port is None else parts.port
    if not 1 <= port <= 65535:
        raise ValueError(EXPECTED_SYSLOG)
    return SyslogServer(transport=parts.scheme, host=host, port=port)
