"""Checks that the files of `dicom.tls` exist, and makes their paths absolute.

Lives in the configuration check. The server checks their contents, with the library that uses them.
"""

from __future__ import annotations

import contextlib
import datetime
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from pylantir.certificates import judge_validity, read_validity
from pylantir.config.locate import fault_of, resolve_path
from pylantir.config.messages import Finding, Place
from pylantir.config.models.serving import Tls
from pylantir.settings import TlsSettings

_PLACE: Place = ("dicom", "tls")


def check_tls(document: Mapping[str, object], base_dir: Path) -> Iterator[Finding]:
    """Find files that cannot be read; the models report values of a wrong form."""
    dicom = document.get("dicom")
    section = dicom.get("tls") if isinstance(dicom, dict) else None
    if not isinstance(section, dict):
        return
    for key in ("certificate", "key", "ca"):
        file = section.get(key)
        if isinstance(file, str) and file:
            path = resolve_path(file, base_dir)
            if fault := fault_of(path):
                yield Finding(place=(*_PLACE, key), text=f"{fault}: {path}")
    if section.get("require_client_certificate") is True and section.get("ca") is None:
        text = 'needs "ca": the authority that signs the scanners\' certificates'
        yield Finding(place=(*_PLACE, "require_client_certificate"), text=text)


def tls_warnings(document: Mapping[str, object], base_dir: Path, now: datetime.datetime) -> Iterator[Finding]:
    """Report problems of the server's certificate and key that do not keep the server from starting."""
    dicom = document.get("dicom")
    section = dicom.get("tls") if isinstance(dicom, dict) else None
    if not isinstance(section, dict):
        return
    with contextlib.suppress(OSError, UnicodeDecodeError, ValueError):
        # An unreadable file is reported as an error elsewhere, and the server reports a file that is no certificate.
        pem = resolve_path(section["certificate"], base_dir).read_text(encoding="ascii")
        verdict = judge_validity(read_validity(pem), now)
        if verdict.text:
            yield Finding(place=(*_PLACE, "certificate"), text=verdict.text)
    with contextlib.suppress(OSError):
        key = resolve_path(section["key"], base_dir)
        status = key.stat()
        # A key of root's that a group can read is shared on purpose, as with Debian's ssl-cert.
        others = stat.S_IRWXO if status.st_uid == 0 else stat.S_IRWXO | stat.S_IRWXG
        if status.st_mode & others:
            text = f"others can read {key}: chmod 600 {key}"
            yield Finding(place=(*_PLACE, "key"), text=text)


def tls_settings(section: Tls | None, base_dir: Path) -> TlsSettings | None:
    """Make the paths absolute."""
    if section is None:
        return None
    return TlsSettings(
        certificate=str(resolve_path(section.certificate, base_dir)),
        key=str(resolve_path(section.key, base_dir)),
        ca=str(resolve_path(section.ca, base_dir)) if section.ca else None,
        require_client_certificate=section.require_client_certificate,
    )
