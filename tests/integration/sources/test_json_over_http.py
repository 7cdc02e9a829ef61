"""JSON from a real HTTP server: pages, headers, and a server that is down, wrong or hostile."""

from __future__ import annotations

import gzip
import json
import logging
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from http_server import HttpServer, answer_bytes, answer_json, closed_port, drip, redirect_to, stay_silent

from pylantir.data_sources import http_pages
from pylantir.data_sources.base import RECORD_LABEL, BadRecord
from pylantir.data_sources.http_pages import HttpAccess, HttpPages
from pylantir.data_sources.json_file import JsonPlugin
from pylantir.errors import SourceUnavailable

MAPPING = {"id": "patient_id", "day": "scheduled_start_date"}
SECRET = "s3cret-token-of-the-test"


def booking(number: int) -> dict[str, str]:
    return {"id": f"P{number}", "day": "2026-12-01"}


@pytest.fixture
def server() -> Iterator[HttpServer]:
    with HttpServer() as running:
        yield running


@pytest.fixture
def other() -> Iterator[HttpServer]:
    with HttpServer({"/": answer_json([booking(9)])}) as running:
        yield running


def plugin_for(url: str, **config: object) -> JsonPlugin:
    plugin = JsonPlugin()
    assert plugin.validate_config({"url": url, "timeout": 5, **config}) == (True, "")
    return plugin


def fetch(url: str, **config: object) -> list[Any]:
    return list(plugin_for(url, **config).fetch_entries(MAPPING, 60))


def patients(entries: list[Any]) -> list[str]:
    return [entry["patient_id"] for entry in entries]


def test_an_answer_is_read_as_a_file_is(server: HttpServer) -> None:
    server.routes["/today"] = answer_json([booking(1), booking(2)])
    first, second = fetch(server.url + "/today?room=3")
    assert (first["patient_id"], second[RECORD_LABEL]) == ("P1", "record 2")
    assert server.requests[0][0] == "/today?room=3"


def test_headers_come_from_the_environment_or_as_they_stand(
    server: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOOKING_TOKEN", SECRET)
    server.routes["/"] = answer_json([booking(1)])
    headers = {
        "Authorization": {"env": "BOOKING_TOKEN", "prefix": "Bearer "},
        "X-Key": {"env": "BOOKING_TOKEN"},
        "X-Room": "3 A",
        "Accept": "application/fhir+json",
    }
    fetch(server.url + "/", headers=headers)
    sent = server.requests[0][1]
    assert sent["Authorization"] == f"Bearer {SECRET}"
    assert sent["X-Key"] == SECRET
    assert (sent["X-Room"], sent["Accept"]) == ("3 A", "application/fhir+json")


@pytest.mark.parametrize("link", ["{url}/all?page=2", "/all?page=2", "?page=2", "all?page=2#top"])
def test_pages_are_followed_by_whole_or_relative_addresses(server: HttpServer, link: str) -> None:
    server.routes["/all"] = answer_json({"links": {"next": link.format(url=server.url)}, "items": [booking(1)]})
    server.routes["/all?page=2"] = answer_json({"items": [booking(2)], "links": {"next": None}})
    entries = fetch(server.url + "/all", records_path="items", next="links.next")
    assert patients(entries) == ["P1", "P2"]
    assert entries[1][RECORD_LABEL] == "page 2, record 1"


@pytest.mark.parametrize("end", [{"next": None}, {"next": ""}, {}, {"next": False}])
def test_absent_null_and_empty_end_the_pages(server: HttpServer, end: dict[str, object]) -> None:
    server.routes["/"] = answer_json({"items": [booking(1)], **end})
    assert patients(fetch(server.url + "/", records_path="items", next="next")) == ["P1"]


def test_a_list_of_links_is_reached_by_number(server: HttpServer) -> None:
    server.routes["/"] = answer_json({"link": [{"url": "/2"}], "items": [booking(1)]})
    server.routes["/2"] = answer_json({"link": [], "items": [booking(2)]})
    assert patients(fetch(server.url + "/", records_path="items", next="link.0.url")) == ["P1", "P2"]


def test_the_next_page_may_be_named_beside_the_records_within_the_path(server: HttpServer) -> None:
    server.routes["/"] = answer_json({"data": {"items": [booking(1)], "paging": {"next": "/2"}}})
    server.routes["/2"] = answer_json({"data": {"paging": {}, "items": [booking(2)]}})
    assert patients(fetch(server.url + "/", records_path="data.items", next="data.paging.next")) == ["P1", "P2"]


@pytest.mark.parametrize("circle", ["/", "/2", "{url}/#again"])
def test_a_page_that_comes_twice_fails_the_fetch(server: HttpServer, circle: str) -> None:
    server.routes["/"] = answer_json({"items": [booking(1)], "next": "/2"})
    server.routes["/2"] = answer_json({"items": [booking(2)], "next": circle.format(url=server.url)})
    with pytest.raises(SourceUnavailable, match="in a circle"):
        fetch(server.url + "/", records_path="items", next="next")


def test_pages_that_differ_in_their_address_only_fail_the_fetch(server: HttpServer) -> None:
    def answer_anything(handler: Any) -> None:
        number = len(server.requests)
        answer_json({"items": [booking(1)], "page": number, "next": f"/?page={number + 1}"})(handler)

    server.routes["/"] = answer_anything
    with pytest.raises(SourceUnavailable, match="same records"):
        fetch(server.url + "/", records_path="items", next="next")


@pytest.mark.parametrize("value", [2, True, ["/2"], {"href": "/2"}])
def test_what_is_no_address_fails_the_fetch(server: HttpServer, value: object) -> None:
    server.routes["/"] = answer_json({"items": [booking(1)], "next": value})
    with pytest.raises(SourceUnavailable, match="not to an address"):
        fetch(server.url + "/", records_path="items", next="next")


@pytest.mark.parametrize("scheme", ["file:///etc/passwd", "ftp://127.0.0.1/x", "//user@127.0.0.1/x", "http://[bad/"])
def test_other_schemes_are_never_followed(server: HttpServer, scheme: str) -> None:
    server.routes["/"] = answer_json({"items": [booking(1)], "next": scheme})
    with pytest.raises(SourceUnavailable, match="no http or https address"):
        fetch(server.url + "/", records_path="items", next="next")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("by", ["redirect", "next"])
def test_nothing_is_asked_elsewhere(
    server: HttpServer, other: HttpServer, monkeypatch: pytest.MonkeyPatch, by: str, status: int
) -> None:
    monkeypatch.setenv("BOOKING_TOKEN", SECRET)
    elsewhere = other.url + f"/?key={SECRET}"
    page = {"items": [booking(1)], "next": elsewhere}
    server.routes["/"] = redirect_to(elsewhere, status) if by == "redirect" else answer_json(page)
    headers = {"Authorization": {"env": "BOOKING_TOKEN"}}
    with pytest.raises(SourceUnavailable) as caught:
        fetch(server.url + "/", records_path="items", next="next", headers=headers)
    assert other.url in str(caught.value)
    assert SECRET not in str(caught.value)
    assert other.requests == []


def test_a_redirect_within_the_server_is_followed_with_the_headers(server: HttpServer) -> None:
    server.routes |= {"/": redirect_to("/new/"), "/new/": answer_json([booking(1)])}
    assert patients(fetch(server.url + "/", headers={"X-Key": "k"})) == ["P1"]
    assert [headers.get("X-Key") for _, headers in server.requests] == ["k", "k"]


def test_redirects_in_a_circle_end(server: HttpServer) -> None:
    server.routes |= {"/": redirect_to("/b"), "/b": redirect_to("/")}
    with pytest.raises(SourceUnavailable, match="redirects"):
        fetch(server.url + "/")


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (answer_json({"error": "expired"}), "has none of the mapped fields"),
        (answer_json([{"message": "try later"}]), '"message": it is an error message perhaps'),
        (answer_json(["maintenance"]), "expected an object"),
        (answer_json("maintenance"), "expected an array"),
        (answer_bytes(b"<html>Log in</html>", content_type="text/html"), "is an HTML page"),
        (answer_bytes(b""), "expected an array"),
        (answer_bytes(b"", status=204), "HTTP 204"),
        (answer_bytes(b'[{"id": "P1"', headers={"Content-Length": "500"}), "cut short"),
        (answer_bytes(b'{"id": "P1", "day": "2026-12-01"}\n', headers={"Content-Length": "500"}), "cut short"),
        (answer_bytes(b'[{"id": "M\xfcller"}]'), "is not utf-8"),
        (answer_bytes(gzip.compress(b"[]")[:-4]), "cut short"),
        (answer_json({"error": "no"}, status=401), "check headers"),
        (answer_json({"error": "no"}, status=403), "check headers"),
        (answer_bytes(b"<html>", status=403, content_type="text/html"), "a firewall or proxy"),
        (answer_json({}, status=404), "check url"),
        (answer_json({}, status=500), "asked again later"),
        (answer_json({}, status=418), "check url and headers"),
        (lambda handler: handler.wfile.write(b"SSH-2.0\r\n"), "connection failed"),
        (lambda handler: handler.connection.close(), "cut short"),
    ],
)
def test_what_is_no_answer_is_a_failed_fetch(server: HttpServer, answer: Any, told: str) -> None:
    server.routes["/"] = answer
    with pytest.raises(SourceUnavailable) as caught:
        fetch(server.url + "/")
    assert told in str(caught.value)
    assert caught.value.__cause__ is None


def test_an_error_on_a_later_page_fails_the_whole_fetch(server: HttpServer) -> None:
    server.routes["/"] = answer_json({"items": [booking(1)], "next": "/2"})
    server.routes["/2"] = answer_json({"items": [{"message": "rate limit"}]})
    with pytest.raises(SourceUnavailable, match="page 2, record 1: has none of the mapped fields"):
        fetch(server.url + "/", records_path="items", next="next")


def test_one_message_among_records_is_a_record_that_cannot_be_read(server: HttpServer) -> None:
    server.routes["/"] = answer_json([booking(1), {"message": "and more"}])
    first, second = fetch(server.url + "/")
    assert first["patient_id"] == "P1"
    assert isinstance(second, BadRecord)
    assert "and more" not in second.reason


def test_packed_answers_are_read_although_nobody_asked_for_them(server: HttpServer) -> None:
    server.routes["/"] = answer_bytes(gzip.compress(json.dumps([booking(1)]).encode()))
    assert patients(fetch(server.url + "/")) == ["P1"]


@pytest.mark.parametrize("answer", [stay_silent, drip])
def test_a_server_that_never_ends_is_given_up(server: HttpServer, answer: Any) -> None:
    server.routes["/"] = answer
    with pytest.raises(SourceUnavailable, match="no whole answer in time"):
        fetch(server.url + "/", timeout=0.3)


def test_an_answer_without_bound_is_given_up(server: HttpServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_pages, "LARGEST_PAGE_BYTES", 5000)
    server.routes["/"] = answer_json([booking(number) for number in range(1000)])
    with pytest.raises(SourceUnavailable, match="too large"):
        fetch(server.url + "/")


def test_a_small_answer_that_unpacks_without_bound_is_given_up(
    server: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_pages, "LARGEST_PAGE_BYTES", 5000)
    server.routes["/"] = answer_bytes(gzip.compress(b"[" + b" " * 1_000_000 + b"]"))
    with pytest.raises(SourceUnavailable, match="too large"):
        fetch(server.url + "/")


def test_a_server_that_is_down_is_named_without_the_query() -> None:
    with closed_port() as port, pytest.raises(SourceUnavailable) as caught:
        fetch(f"http://127.0.0.1:{port}/x?key={SECRET}")
    assert str(caught.value) == f"http://127.0.0.1:{port}/x: no connection: Connection refused"


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_asks_for_a_pause_is_left_alone_for_that_long(server: HttpServer, status: int) -> None:
    server.routes["/"] = answer_json({}, status=status, headers={"Retry-After": "120"})
    now = [1000.0]
    pages = HttpPages(HttpAccess(url=server.url + "/"), monotonic=lambda: now[0])

    def ask() -> str:
        with pytest.raises(SourceUnavailable) as caught, pages.fetch(pages.begin()):
            pass
        return str(caught.value)

    assert "asks for a pause of 120 s" in ask()
    now[0] += 100
    assert "20 s of it are left" in ask()
    now[0] += 21
    assert "asks for a pause" in ask()
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("Thu, 01 Jan 1970 00:10:00 GMT", 500.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("soon", 0.0),
        (None, 0.0),
    ],
)
def test_a_pause_is_given_in_seconds_or_as_a_date(header: str | None, seconds: float) -> None:
    assert http_pages._seconds(header, 100.0) == seconds


def test_a_certificate_is_checked_against_the_machine_or_the_bundle(tmp_path: Path) -> None:
    import ssl

    certificate, key = tmp_path / "server.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with HttpServer({"/": answer_json([booking(1)])}, tls=context) as server:
        assert patients(fetch(server.url + "/", ca_bundle=str(certificate))) == ["P1"]
        with pytest.raises(SourceUnavailable, match=r"certificate is not trusted.*ca_bundle"):
            fetch(server.url + "/")
        with pytest.raises(SourceUnavailable, match=r"certificate is not trusted: it is for another host"):
            fetch(f"https://localhost:{server.port}/", ca_bundle=str(certificate))
        with pytest.raises(SourceUnavailable, match="ca_bundle"):
            fetch(server.url + "/", ca_bundle=str(tmp_path / "absent.pem"))


def test_a_server_without_tls_is_told_from_a_certificate(server: HttpServer) -> None:
    with pytest.raises(SourceUnavailable, match=r"does not speak TLS; is the address right: http or https"):
        fetch(f"https://127.0.0.1:{server.port}/")


def test_no_secret_is_in_any_message(server: HttpServer, caplog: pytest.LogCaptureFixture) -> None:
    server.routes["/"] = answer_json({"error": SECRET}, status=401)
    with caplog.at_level(logging.DEBUG), pytest.raises(SourceUnavailable) as caught:
        fetch(server.url + f"/?token={SECRET}", headers={"Authorization": SECRET})
    assert SECRET not in str(caught.value) + caplog.text


def test_what_was_fetched_leaves_nothing_open(server: HttpServer) -> None:
    server.routes["/"] = answer_json([booking(number) for number in range(9)])
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    entries = plugin_for(server.url + "/").fetch_entries(MAPPING, 60)
    next(entries)
    entries.close()  # type: ignore[attr-defined]
    # The server runs in this process too, and lets go of its end a little later.
    deadline = time.monotonic() + 20
    while len(os.listdir("/proc/self/fd")) > before and time.monotonic() < deadline:  # noqa: PTH208
        time.sleep(0.02)
    assert len(os.listdir("/proc/self/fd")) <= before  # noqa: PTH208


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"url": "ftp://x/"}, "url: expected an address"),
        ({"url": "https://me:pass@x/"}, "without user and password"),
        ({"url": "http://x/", "file_path": "x"}, "file_path: belongs to a file"),
        ({"file_path": "x", "headers": {}}, "headers: belongs to a server"),
        ({"url": "http://x/", "next": "next"}, 'next: needs "records_path"'),
        ({"url": "http://x/", "records_path": "a", "next": "a.*"}, "several addresses"),
        ({"url": "http://x/", "headers": {"A": {"env": "UNSET_VARIABLE"}}}, "UNSET_VARIABLE is not set"),
        ({"url": "http://x/", "headers": {"A": {"environment": "X"}}}, 'headers.A: expected text, or {"env"'),
        ({"url": "http://x/", "headers": {"A": 7}}, "headers.A: expected text"),
        ({"url": "http://x/", "headers": {"A\nB": "x"}}, "no name of a header"),
        ({"url": "http://x/", "headers": {"A": "x\r\nB: y"}}, "no header may hold"),
        ({"url": "http://x/", "headers": ["A"]}, "headers: expected an object"),
        ({"url": "http://x/", "timeout": 0}, "timeout: expected a number"),
        ({"url": "http://x/", "key_field": 7}, "key_field: expected"),
        ({}, "file_path: expected the path of a file"),
    ],
)
def test_the_form_of_the_configuration_is_checked(config: dict[str, Any], told: str) -> None:
    valid, message = JsonPlugin().validate_config(config)
    assert not valid
    assert told in message
