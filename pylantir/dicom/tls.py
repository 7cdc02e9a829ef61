"""DICOM over TLS: the server's certificate, and which clients' are trusted.

Lives in the server process, and its client half in the commands. File names come in, connections with a TLS handshake
before them go out. New files are read for the next connection, so that a renewed certificate needs no restart.

Source: DICOM PS3.15 B.12 (BCP 195 TLS profile); RFC 9325 (TLS 1.2 and 1.3, forward secrecy, AEAD ciphers).
"""

from __future__ import annotations

import datetime
import logging
import socket
import ssl
from pathlib import Path

from pylantir.certificates import PeerCertificate, Validity, Verdict, judge_validity, read_validity, shown_certificate
from pylantir.errors import ConfigurationError, DicomPeerError
from pylantir.settings import TlsSettings

logger = logging.getLogger(__name__)

_TLS_1_2_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL"


class ServerTls:
    """The server's side of TLS."""

    def __init__(self, settings: TlsSettings) -> None:
        """Read the certificates.

        Raises:
            ConfigurationError: They cannot be used; says which and why.
        """
        self._settings = settings
        self._stamp = self._current_stamp()
        try:
            self._context = make_context(settings)
        except OSError as error:
            raise ConfigurationError([_describe(settings, error)]) from None
        self._validity = _read_validity(settings)

    def verdict(self, now: datetime.datetime) -> Verdict:
        """Say whether the certificate in use is good, and for how long."""
        return judge_validity(self._validity, now) if self._validity else Verdict()

    def secure(self, connection: socket.socket) -> ssl.SSLSocket:
        """Put TLS on an accepted connection; the handshake is left to the caller."""
        stamp = self._current_stamp()
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._context = make_context(self._settings)
                self._validity = _read_validity(self._settings)
                logger.info("the TLS certificates have changed and are in use")
            except OSError as error:
                logger.error("%s; those from before stay in use", _describe(self._settings, error))  # noqa: TRY400
        return self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)

    def _current_stamp(self) -> tuple[object, ...]:
        return tuple(_stamp(file) for file in _files(self._settings))


def certificate_of(connection: socket.socket) -> PeerCertificate | None:
    """Read the certificate that a peer has shown, if `ca` vouches for it."""
    if not isinstance(connection, ssl.SSLSocket):
        return None
    names, encoded = connection.getpeercert(), connection.getpeercert(binary_form=True)
    if not names or encoded is None:
        return None
    return shown_certificate(encoded, names.get("subject", ()))  # type: ignore[arg-type]


def make_context(settings: TlsSettings) -> ssl.SSLContext:
    """Make the TLS context.

    Raises:
        OSError: A file is absent, or is no certificate or key (ssl.SSLError).
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_TLS_1_2_CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    # An encrypted key fails, instead of asking for a password at a terminal where nobody is.
    context.load_cert_chain(settings.certificate, settings.key, password="")
    if settings.ca is not None:
        context.load_verify_locations(settings.ca)
        context.verify_mode = ssl.CERT_REQUIRED if settings.require_client_certificate else ssl.CERT_OPTIONAL
    return context


def make_client_context(settings: TlsSettings) -> ssl.SSLContext:
    """Make the TLS context with which this machine's own commands ask the server, as the server's owner.

    They trust what the server's scanners would, or the server's very certificate, and show that certificate themselves.

    Raises:
        DicomPeerError: The files cannot be used, by this user perhaps.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # The certificate names the server as scanners know it, and a command asks at the address it listens on.
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(settings.certificate)
        if settings.ca is not None:
            context.load_verify_locations(settings.ca)
        context.load_cert_chain(settings.certificate, settings.key, password="")
    except OSError as error:
        raise DicomPeerError(_describe(settings, error)) from None
    return context


def _files(settings: TlsSettings) -> list[str]:
    return [file for file in (settings.certificate, settings.key, settings.ca) if file is not None]


def _read_validity(settings: TlsSettings) -> Validity | None:
    """The context has been made of the file, so it holds a certificate; one that we cannot read is not judged."""
    try:
        return read_validity(Path(settings.certificate).read_text(encoding="latin-1"))
    except (OSError, ValueError):
        return None


def _stamp(file: str) -> tuple[int, int, int] | None:
    try:
        status = Path(file).stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _describe(settings: TlsSettings, error: OSError) -> str:
    reason = getattr(error, "reason", None) or error.strerror or str(error)
    files = ", ".join(_files(settings))
    return f"dicom.tls: the certificates cannot be used ({reason.lower().replace('_', ' ')}): {files}"
