"""Who gets an association."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylantir.dicom.net.admission import MAX_REQUEST_BYTES, Admission, Refusal
from pylantir.dicom.net.complaints import EVERY_S, MAX_HOSTS, Complaints
from pylantir.settings import DicomSettings, ScannerProfile

UNKNOWN_CALLING, UNKNOWN_CALLED, TOO_MANY = b"\x01\x01\x03", b"\x01\x01\x07", b"\x02\x03\x02"


def request(calling: str = "MR1", called: str = "PYLANTIR") -> bytes:
    titles = f"{called:16}{calling:16}".encode()
    return b"\x01\x00\x00\x00\x00\x44" + b"\x00\x01\x00\x00" + titles + bytes(32)


def refusal(
    host: str = "10.0.0.1", *, active: dict[str, int] | None = None, calling: str = "MR1", **settings: Any
) -> bytes | None:
    verdict = Admission(DicomSettings(**settings)).check_request(request(calling), host, active or {})
    return verdict.reply[-3:] if verdict else None


def test_everybody_is_admitted_unless_something_is_configured() -> None:
    assert refusal() is None


def test_an_ae_title_has_to_be_one_of_the_allowed() -> None:
    assert refusal(allowed_aet=("MR2",)) == UNKNOWN_CALLING
    assert refusal(allowed_aet=("MR2", "MR1")) is None


def test_the_called_title_counts_only_when_it_is_checked() -> None:
    assert refusal(ae_title="OTHER") is None
    assert refusal(ae_title="OTHER", check_called_aet=True) == UNKNOWN_CALLED


@pytest.mark.parametrize(
    ("host", "is_admitted"),
    [("10.0.0.1", True), ("::ffff:10.0.0.1", True), ("10.0.1.7", True), ("10.0.0.2", False), ("::1", False)],
)
def test_an_ae_title_with_a_host_is_admitted_from_there_only(host: str, is_admitted: bool) -> None:
    profiles = {"MR1": ScannerProfile(hosts=("10.0.0.1", "10.0.1.0/24"))}
    assert refusal(host, profiles=profiles) == (None if is_admitted else UNKNOWN_CALLING)
    assert refusal(host, profiles=profiles, calling="MR2") is None


def test_associations_are_limited_in_total_and_per_host() -> None:
    limits = {"max_associations": 3, "max_associations_per_host": 2}
    assert refusal(active={"10.0.0.1": 1, "10.0.0.2": 1}, **limits) is None
    assert refusal(active={"10.0.0.1": 2}, **limits) == TOO_MANY
    assert refusal("10.0.0.9", active={"10.0.0.1": 2, "10.0.0.2": 1}, **limits) == TOO_MANY


def test_only_allowed_hosts_may_connect_and_this_machine_always() -> None:
    admission = Admission(DicomSettings(allowed_hosts=("10.0.0.0/24", "fd00::/8")))
    hosts = ("10.0.0.7", "fd00::1", "::ffff:10.0.0.7", "127.0.0.1", "::1", "10.0.1.7", "fe80::1%eth0")
    assert [admission.allows_host(host) for host in hosts] == [True] * 5 + [False] * 2
    assert Admission(DicomSettings()).allows_host("203.0.113.1")


@pytest.mark.parametrize(
    ("header", "reply"),
    [
        (b"GET / ", b"\x07"),
        (b"\x04\x00\x00\x00\x00\x44", b"\x07"),
        (b"\x01\x00\xff\xff\xff\xff", b"\x07"),
        (b"\x01\x00\x00\x00\x00\x04", b"\x07"),
        (b"\x07\x00\x00\x00\x00\x04", b""),
    ],
    ids=["no DICOM", "data first", "4 GB", "too short", "abort"],
)
def test_what_is_no_association_request_is_aborted(header: bytes, reply: bytes) -> None:
    verdict = Admission(DicomSettings()).announced_bytes(header)
    assert isinstance(verdict, Refusal)
    assert verdict.reply[:1] == reply


@given(header=st.binary(min_size=6, max_size=6), body=st.binary(min_size=68, max_size=200))
def test_any_bytes_get_a_verdict(header: bytes, body: bytes) -> None:
    admission = Admission(DicomSettings(allowed_aet=("MR1",), check_called_aet=True))
    announced = admission.announced_bytes(header)
    assert isinstance(announced, Refusal) or announced <= MAX_REQUEST_BYTES
    verdict = admission.check_request(header + body, "10.0.0.1", {})
    assert verdict is None or verdict.reason.isprintable()


def test_a_host_is_complained_of_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    complaints = Complaints(logging.getLogger("complaints"), clock=lambda: now[0])
    for _ in range(1000):
        complaints.add("10.0.0.1", "refused")
    complaints.add("10.0.0.2", "refused")
    now[0] = EVERY_S
    complaints.add("10.0.0.1", "refused")
    assert [record.getMessage() for record in caplog.records] == [
        "connection from 10.0.0.1: refused",
        "connection from 10.0.0.2: refused",
        "connection from 10.0.0.1: refused (999 more since the last such line)",
    ]


def test_complaints_about_many_hosts_take_no_more_memory(caplog: pytest.LogCaptureFixture) -> None:
    complaints = Complaints(logging.getLogger("complaints"))
    for number in range(3 * MAX_HOSTS):
        complaints.add(f"2001:db8::{number:x}", "refused")
    assert len(complaints._last) == MAX_HOSTS
