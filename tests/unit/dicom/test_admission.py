"""Who gets an association."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylantir.dicom.net.admission import MAX_REQUEST_BYTES, Admission, Occupant, Place, Refusal
from pylantir.dicom.net.negotiation import read_request
from pylantir.dicom.net.refusals import EVERY_S, MAX_KINDS, MAX_REMEMBERED, Peer, ProtocolError, Reason, Refusals
from pylantir.settings import DicomSettings, ScannerProfile

UNKNOWN_CALLING, UNKNOWN_CALLED, TOO_MANY = b"\x01\x01\x03", b"\x01\x01\x07", b"\x02\x03\x02"


def request(calling: str = "MR1", called: str = "PYLANTIR") -> bytes:
    titles = f"{called:16}{calling:16}".encode()
    context = b"\x10\x00\x00\x151.2.840.10008.3.1.1.1"
    return b"\x01\x00\x00\x00\x00\x5d" + b"\x00\x01\x00\x00" + titles + bytes(32) + context


def occupants(*hosts: str, known: tuple[str, ...] = ()) -> list[Occupant]:
    """The first has been idle longest."""
    return [Occupant(host=host, is_known=host in known, idle_since=since) for since, host in enumerate(hosts)]


def decide(
    host: str = "10.0.0.1", there: list[Occupant] | None = None, *, calling: str = "MR1", **settings: Any
) -> Place | Refusal:
    return Admission(DicomSettings(**settings)).decide(read_request(request(calling)), host, there or [])


def refusal(
    host: str = "10.0.0.1", there: list[Occupant] | None = None, *, calling: str = "MR1", **settings: Any
) -> bytes | None:
    verdict = decide(host, there, calling=calling, **settings)
    return verdict.reply[-3:] if isinstance(verdict, Refusal) else None


def test_everybody_is_admitted_unless_something_is_configured() -> None:
    assert refusal() is None


def test_an_ae_title_has_to_be_one_of_the_allowed() -> None:
    assert refusal(allowed_aet=("MR2",)) == UNKNOWN_CALLING
    assert refusal(allowed_aet=("MR2", "MR1")) is None


def test_the_called_title_counts_only_when_it_is_checked() -> None:
    assert refusal(ae_title="OTHER") is None
    assert refusal(ae_title="OTHER", check_called_aet=True) == UNKNOWN_CALLED


@pytest.mark.parametrize("padding", [" ", "\0", "\0 ", " \0 "])
def test_the_padding_of_a_title_does_not_count(padding: str) -> None:
    rules: dict[str, Any] = {"allowed_aet": ("MR1",), "check_called_aet": True}
    padded = request("MR1" + padding, "PYLANTIR" + padding)
    assert isinstance(Admission(DicomSettings(**rules)).decide(read_request(padded), "10.0.0.1", []), Place)


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
    assert refusal(there=occupants("10.0.0.1", "10.0.0.2"), **limits) is None
    assert refusal(there=occupants("10.0.0.1", "10.0.0.1"), **limits) == TOO_MANY
    assert refusal("10.0.0.9", occupants("10.0.0.1", "10.0.0.1", "10.0.0.2"), **limits) == TOO_MANY


def test_a_scanner_with_a_host_always_gets_the_place_of_the_stranger_that_is_idle_longest() -> None:
    limits: dict[str, Any] = {"max_associations": 3, "max_associations_per_host": 2}
    limits["profiles"] = {"MR1": ScannerProfile(hosts=("10.0.0.1",)), "CT1": ScannerProfile(hosts=("10.0.0.2",))}
    full = occupants("10.0.0.2", "10.9.9.9", "10.8.8.8", known=("10.0.0.2",))
    assert decide(there=full, **limits) == Place(is_known=True, gives_way=1)
    assert refusal("10.7.7.7", full, calling="OTHER", **limits) == TOO_MANY
    assert decide(there=occupants("10.0.0.1"), **limits) == Place(is_known=True)
    own = occupants("10.0.0.1", "10.0.0.1", known=("10.0.0.1",))
    assert decide(there=own, **limits) == Place(is_known=True, gives_way=0)
    only_known = occupants("10.0.0.2", "10.0.0.2", "10.0.0.2", known=("10.0.0.2",))
    assert decide(there=only_known, **limits) == Place(is_known=True, gives_way=0)


@given(
    there=st.lists(st.builds(Occupant, host=st.sampled_from(["10.0.0.1", "10.0.0.2"]), is_known=st.booleans(), idle_since=st.integers(0, 9))),
    total=st.integers(1, 9),
    per_host=st.integers(1, 9),
)  # fmt: skip
def test_whoever_is_configured_gets_a_place_and_no_known_one_gives_way_while_a_stranger_is_there(
    there: list[Occupant], total: int, per_host: int
) -> None:
    profiles = {"MR1": ScannerProfile(hosts=("10.0.0.1",))}
    verdict = decide(
        "10.0.0.1", there, max_associations=total, max_associations_per_host=per_host, profiles=profiles
    )  # fmt: skip
    assert isinstance(verdict, Place)
    if len(there) >= total:
        assert verdict.gives_way is not None
        chosen = there[verdict.gives_way]
        assert not chosen.is_known or all(occupant.is_known for occupant in there)
        rivals = [occupant.idle_since for occupant in there if occupant.is_known == chosen.is_known]
        assert chosen.idle_since == min(rivals)


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
        (b"\x16\x03\x01\x02\x00\x01", b"\x07"),
    ],
    ids=["no DICOM", "data first", "4 GB", "too short", "abort", "TLS"],
)
def test_what_is_no_association_request_is_aborted(header: bytes, reply: bytes) -> None:
    verdict = Admission(DicomSettings()).announced_bytes(header)
    assert isinstance(verdict, Refusal)
    assert verdict.reply[:1] == reply
    assert (verdict.reason is Reason.TLS) == header.startswith(b"\x16")


@given(header=st.binary(min_size=6, max_size=6), body=st.binary(min_size=68, max_size=200))
def test_any_bytes_get_a_verdict(header: bytes, body: bytes) -> None:
    admission = Admission(DicomSettings(allowed_aet=("MR1",), check_called_aet=True))
    announced = admission.announced_bytes(header)
    assert isinstance(announced, Refusal) or announced <= MAX_REQUEST_BYTES
    try:
        read = read_request(header + body)
    except ProtocolError:
        return
    verdict = admission.decide(read, "10.0.0.1", [])
    assert isinstance(verdict, Place) or verdict.text.isprintable()


def test_a_reason_is_told_once_a_minute_per_host_and_another_reason_at_once(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    refusals = Refusals(logging.getLogger("refusals"), clock=lambda: now[0])
    first, second = Peer(host="10.0.0.1", calling="MR1", called="PYLANTIR"), Peer(host="10.0.0.2")
    for _ in range(1000):
        refusals.add(Reason.CALLED_TITLE, first, "refused: title")
    refusals.add(Reason.CALLED_TITLE, second, "refused: title")
    refusals.add(Reason.APPLICATION_CONTEXT, first, "refused: context")
    now[0] = EVERY_S
    refusals.add(Reason.CALLED_TITLE, first, "refused: title")
    assert [record.getMessage() for record in caplog.records] == [
        "connection from 10.0.0.1 (MR1 calls PYLANTIR): refused: title",
        "connection from 10.0.0.2: refused: title",
        "connection from 10.0.0.1 (MR1 calls PYLANTIR): refused: context",
        "connection from 10.0.0.1 (MR1 calls PYLANTIR): refused: title (999 more since the last such line)",
    ]
    assert refusals.counts == {"called AE title": 1002, "application context": 1}


def test_another_mistake_in_a_message_is_told_at_once_and_the_same_with_another_value_is_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    refusals = Refusals(logging.getLogger("refusals"), clock=lambda: 0.0)
    told = [
        "N-DELETE refused: status 0x0211, this SOP class has no N-DELETE",
        "N-CREATE refused: status 0x0118, the request is for another SOP class",
        'refused: "A" is not in allowed_aet',
        "refused: its calling AE title is blank",
        "aborted: it announces a PDU of 2000000 bytes",
    ]
    untold = ['refused: "B" is not in allowed_aet', "aborted: it announces a PDU of 3000000 bytes"]
    for text in told + untold:
        refusals.add(Reason.MESSAGE, Peer(host="10.0.0.1"), text)
    assert [record.getMessage() for record in caplog.records] == [f"connection from 10.0.0.1: {text}" for text in told]


def test_ever_new_mistakes_do_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    refusals = Refusals(logging.getLogger("refusals"), clock=lambda: 0.0)
    for number in range(1000):
        word = "".join(chr(ord("a") + int(digit)) for digit in str(number))
        refusals.add(Reason.MESSAGE, Peer(host="10.0.0.1"), f"C-FIND refused: {word}")
    assert len(caplog.records) == MAX_KINDS + 1


def test_what_is_tolerated_is_told_and_not_counted(caplog: pytest.LogCaptureFixture) -> None:
    refusals = Refusals(logging.getLogger("refusals"))
    for _ in range(3):
        refusals.tolerate(Peer(host="10.0.0.1"), "odd")
    assert len(caplog.records) == 1
    assert not refusals.counts


def test_refusals_of_many_hosts_take_no_more_memory() -> None:
    refusals = Refusals(logging.getLogger("refusals"))
    for number in range(3 * MAX_REMEMBERED):
        refusals.add(Reason.TLS, Peer(host=f"2001:db8::{number:x}"), "refused")
    assert len(refusals._last) == MAX_REMEMBERED


def test_every_reason_stands_in_the_reference() -> None:
    reference = " ".join((Path(__file__).parents[3] / "docs/reference/logs.md").read_text(encoding="utf-8").split())
    assert [reason for reason in Reason if f"`{reason}`" not in reference] == []
