"""Checks the section `access`: which syslog server gets audit messages, and whether its TLS files can be read.

Lives in the configuration check; imports no pydantic, opens no connection.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pylantir.config.locate import fault_of, resolve_path
from pylantir.config.messages import Finding, Place
from pylantir.config.sections.syslog_url import read_syslog_url
from pylantir.settings import AccessSettings, SyslogServer

if TYPE_CHECKING:
    from pylantir.config.models.configuration import Access

_PLACE: Place = ("access",)


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
