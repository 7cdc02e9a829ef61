"""What is told of a server that cannot be asked: what is wrong, and what to do, in words and without secrets."""

from __future__ import annotations

import http.client
import socket
import ssl
import urllib.error
from collections.abc import Callable

import pytest
import requests
import urllib3

from pylantir.data_sources.connection_trouble import Trouble, describe_trouble, place_of

HERE = "https://redcap.example.org/api/"


@pytest.fixture(autouse=True)
def no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def describe(error: BaseException) -> Trouble:
    return describe_trouble(error, HERE, 3)


def as_urllib(cause: Exception) -> BaseException:
    return urllib.error.URLError(cause)


def as_requests(cause: Exception) -> BaseException:
    pool = urllib3.HTTPSConnectionPool("redcap.example.org")
    return requests.exceptions.SSLError(urllib3.exceptions.MaxRetryError(pool, "/", urllib3.exceptions.SSLError(cause)))


@pytest.mark.parametrize("wrap", [as_urllib, as_requests])
@pytest.mark.parametrize(
    ("code", "told", "advice"),
    [
        (9, "is not valid yet", "clock"),
        (10, "has expired", "renew"),
        (18, "is self-signed", "ca_bundle"),
        (19, "a CA that this machine does not know", "ca_bundle"),
        (20, "does not send its intermediate certificate", "ca_bundle"),
        (62, "is for another host", "the address has to use a name"),
        (64, "does not name this IP address", "the address has to use a name"),
        (94, "is not accepted (certificate error 94)", "ca_bundle"),
    ],
)
def test_each_fault_of_a_certificate_has_its_own_advice(
    wrap: Callable[[Exception], BaseException], code: int, told: str, advice: str
) -> None:
    fault = ssl.SSLCertVerificationError(1, "certificate verify failed")
    fault.verify_code, fault.verify_message = code, f"certificate error {code}"
    described = describe(wrap(fault))
    assert told in described.text
    assert advice in described.text
    assert described.lasts
    # Naming a CA does not help a certificate that is too old or for another host.
    assert ("ca_bundle" in described.text) == (advice == "ca_bundle")


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("WRONG_VERSION_NUMBER", "does not speak TLS"),
        ("TLSV1_ALERT_PROTOCOL_VERSION", "no version of TLS that is still safe"),
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "a client certificate"),
        ("NO_CERTIFICATE_OR_CRL_FOUND", "the file in ca_bundle holds no certificate"),
    ],
)
def test_a_handshake_that_cannot_succeed_is_not_repeated(reason: str, told: str) -> None:
    fault = ssl.SSLError(1, "[SSL] failed")
    fault.reason = reason
    # An answer that fails while it is read comes as it is, not within another exception.
    for error in (fault, as_urllib(fault), as_requests(fault)):
        described = describe(error)
        assert told in described.text
        assert described.lasts


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (as_requests(ssl.SSLEOFError(8, "EOF occurred")), "closes the connection within the TLS handshake"),
        (as_urllib(ConnectionRefusedError(111, "Connection refused")), "no connection: Connection refused"),
        (as_urllib(socket.gaierror(-2, "Name or service not known")), "no connection: Name or service not known"),
        (TimeoutError(), "no whole answer in time (timeout: 3 s)"),
        (http.client.RemoteDisconnected("gone"), "the answer is cut short"),
        (http.client.BadStatusLine("???"), "the connection failed (BadStatusLine)"),
    ],
)
def test_what_may_be_over_soon_is_told_and_may_be_repeated(error: BaseException, told: str) -> None:
    described = describe(error)
    assert told in described.text
    assert not described.lasts


@pytest.mark.parametrize("proxy", ["http://user:s3cret@proxy.example.org:3128", "user:s3cret@proxy.example.org:3128"])
def test_a_proxy_on_the_way_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("https_proxy", proxy)
    error = as_urllib(OSError("Tunnel connection failed: 407 Proxy Authentication Required"))
    assert describe(error).text == (
        "a proxy refuses to pass the request on (HTTP 407; it wants a user and a password)"
        "; asked through the proxy http://proxy.example.org:3128"
    )
    monkeypatch.setenv("no_proxy", "redcap.example.org")
    assert "proxy.example.org" not in describe(error).text


def test_an_address_is_named_without_what_may_be_secret() -> None:
    assert place_of("https://user:s3cret@host.example.org:8443/a/b?token=s3cret#x") == (
        "https://host.example.org:8443/a/b"
    )
    assert place_of("http://[bad") == "an address that cannot be read"
