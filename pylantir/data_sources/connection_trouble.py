"""Says in words why a server could not be asked, and whether asking again soon is any use.

Lives in the workers of sources that speak HTTP. In: an exception of `urllib`, or of `requests`; out: what is wrong and
what to do about it. The words hold neither headers nor queries, nor the password of a proxy.
"""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_TUNNEL_REFUSED = re.compile(r"Tunnel connection failed: (\d{3})")
_CLOCK = "or is this machine's clock wrong?"
_UNKNOWN_CA = "comes from a CA that this machine does not know"
_NAME_CA = "name the issuing CA's file in ca_bundle"
_CERTIFICATE: Mapping[int, str] = {
    9: f"is not valid yet; has its owner set a wrong date, {_CLOCK}",
    10: f"has expired, or the one of its CA has; its owner has to renew it, {_CLOCK}",
    18: "is self-signed: name the certificate's own file in ca_bundle, if it is the right one",
    19: f"{_UNKNOWN_CA}; {_NAME_CA}",
    20: f"{_UNKNOWN_CA}, or the server does not send its intermediate certificate; {_NAME_CA}",
    21: f"{_UNKNOWN_CA}, or the server does not send its intermediate certificate; {_NAME_CA}",
    23: "has been revoked",
    62: "is for another host; the address has to use a name that stands in the certificate",
    64: "does not name this IP address; the address has to use a name that stands in the certificate",
}
"""OpenSSL's numbers of reasons -> what to tell (X509_V_ERR_*)."""
_WANTS_CERTIFICATE = "perhaps it wants a client certificate, and Pylantir has none to show"
_TLS: Mapping[str, str] = {
    **dict.fromkeys(
        (
            "TLSV1_ALERT_PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL", "WRONG_SSL_VERSION", "NO_PROTOCOLS_AVAILABLE",
            "VERSION_TOO_LOW",
        ),
        "the server offers no version of TLS that is still safe (1.2 or later)",
    ),
    **dict.fromkeys(
        ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"),
        "what answers there does not speak TLS; is the address right: http or https, and the port?",
    ),
    **dict.fromkeys(
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "SSLV3_ALERT_BAD_CERTIFICATE", "SSLV3_ALERT_HANDSHAKE_FAILURE"),
        f"the server refuses the TLS connection; {_WANTS_CERTIFICATE}",
    ),
    "NO_CERTIFICATE_OR_CRL_FOUND": "the file in ca_bundle holds no certificate",
}  # fmt: skip
"""OpenSSL's names of errors -> what to tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Why a server could not be asked.

    Attributes:
        text: What is wrong, and what to do.
        lasts: Asking again within seconds is useless: somebody has to change something.
    """

    text: str
    lasts: bool = False


def describe_trouble(error: BaseException, address: str, timeout_s: float) -> Trouble:
    """Find the root of a failed request.

    Args:
        error: What the HTTP library raised.
        address: What was asked, to tell whether a proxy stands between.
        timeout_s: How long the server was given.
    """
    trouble = _describe_root(list(_chain(error)), timeout_s)
    proxy = proxy_of(address)
    return Trouble(text=f"{trouble.text}; asked through the proxy {proxy}", lasts=trouble.lasts) if proxy else trouble


def proxy_of(address: str) -> str:
    """Name the proxy that the environment sets for an address, without its user and password; "" if there is none."""
    parts = urllib.parse.urlsplit(address)
    proxy = urllib.request.getproxies().get(parts.scheme)
    if not proxy or (parts.hostname and urllib.request.proxy_bypass(parts.hostname)):
        return ""
    return place_of(proxy if "://" in proxy else f"http://{proxy}")


def place_of(address: str) -> str:
    """Name an address without what may be secret in it: user, password, query."""
    try:
        parts = urllib.parse.urlsplit(address)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "an address that cannot be read"
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}" if parts.scheme else parts.path


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception, and those that it was made of, the outer ones first."""
    waiting, seen = [error], set[int]()
    while waiting:
        one = waiting.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        parts = (getattr(one, "reason", None), *one.args, one.__cause__, one.__context__)
        waiting += [part for part in parts if isinstance(part, BaseException)]


def _describe_root(chain: list[BaseException], timeout_s: float) -> Trouble:
    for one in chain:
        if isinstance(one, ssl.SSLCertVerificationError):
            fault = _CERTIFICATE.get(one.verify_code, f"is not accepted ({one.verify_message}); {_NAME_CA}")
            return Trouble(text=f"the server's certificate is not trusted: it {fault}", lasts=True)
        if isinstance(one, ssl.SSLEOFError):
            return Trouble(text=f"the server closes the connection within the TLS handshake; {_WANTS_CERTIFICATE}")
        if isinstance(one, ssl.SSLError):
            text = _TLS.get(one.reason or "", "")
            return Trouble(
                text=text or f"the TLS connection failed ({one.reason or 'no reason given'})", lasts=bool(text)
            )
        if refused := _TUNNEL_REFUSED.match(str(one)):
            wants = "; it wants a user and a password" if refused[1] == "407" else ""
            return Trouble(text=f"a proxy refuses to pass the request on (HTTP {refused[1]}{wants})")
    for one in chain:
        if isinstance(one, TimeoutError):
            return Trouble(text=f"no whole answer in time (timeout: {timeout_s:g} s)")
        if isinstance(one, http.client.IncompleteRead | http.client.RemoteDisconnected):
            return Trouble(text="the answer is cut short")
        if isinstance(one, socket.gaierror):
            return Trouble(text=f"no connection: {one.strerror}; the host's name is not known here")
        if isinstance(one, OSError) and one.strerror:
            return Trouble(text=f"no connection: {one.strerror}")
    return Trouble(text=f"the connection failed ({type(chain[0]).__name__})")
