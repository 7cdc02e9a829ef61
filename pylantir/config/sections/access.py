"""Checks the section `access`: which syslog server gets audit messages, and whether its TLS files can be read.

Lives in the configuration check; imports no pydantic, opens no connection.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pylantir.config.locate import fault_of, resolve_path
from pylantir.config.messages import Finding, Place
from pylantir.settings import AccessSettings, SyslogServer

if TYPE_CHECKING:
    from pylantir.config.models.configuration import Access

EXPECTED_SYSLOG = 'a syslog server such as "udp://HOST:514", "tcp://HOST:601" or "tls://HOST:6514"'
DEFAULT_PORTS = {"udp": 514, "tcp": 601, "tls": 6514}
"""RFC 5426 3.3, RFC 6587 1, RFC 5425 4.1."""
_PLACE: Place = ("access",)


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


def check_access(document: Mapping[str, object], base_dir: Path) -> Iterator[Finding]:
    """Find TLS files that cannot be read or are not used; the models report values of a wrong form."""
    section = document.get("access")
    tls = section.get("tls") if isinstance(section, dict) else None
    if not isinstance(section, dict) or not isinstance(tls, dict):
        return
    url = section.get("syslog")
    if not (isinstance(url, str) and url.lower().startswith("tls:")):
        yield Finding(place=(*_PLACE, "tls"), text='is for "syslog": "tls://…" only')
    for key in ("ca", "certificate", "key"):
        file = tls.get(key)
        if isinstance(file, str) and file:
            path = resolve_path(file, base_dir)
            if fault := fault_of(path):
                yield Finding(place=(*_PLACE, "tls", key), text=f"{fault}: {path}")
    if (tls.get("certificate") is None) is not (tls.get("key") is None):
        yield Finding(place=(*_PLACE, "tls"), text="certificate and key are given together, or neither")


def access_settings(section: Access, base_dir: Path) -> AccessSettings:
    """Read the server's address, and make paths absolute."""
    if section.syslog is None:
        return AccessSettings(log=section.log)
    server, files = read_syslog_url(section.syslog), {}
    for key in ("ca", "certificate", "key") if section.tls else ():
        if file := getattr(section.tls, key):
            files[key] = str(resolve_path(file, base_dir))
    syslog = SyslogServer(transport=server.transport, host=server.host, port=server.port, **files)
    return AccessSettings(log=section.log, syslog=syslog)
