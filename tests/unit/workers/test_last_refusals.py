"""Who was refused is kept for people to see, and no stranger can displace what they look for."""

from __future__ import annotations

import pytest

from pylantir.dicom.net.refusals import ADVICE, ORDINARY, Peer, Reason
from workers.server.last_refusals import MAX_ENTRIES, MAX_TEXT, LastRefusals

SCANNER = Peer(host="10.1.2.3", calling="MR9", called="PYLANTIR")


def test_a_refusal_is_kept_with_its_reason_and_what_to_do() -> None:
    refusals = LastRefusals()
    refusals.note(Reason.HOST, Peer(host="10.0.0.1"), "refused: not in allowed_hosts")
    for _ in range(3):
        refusals.note(Reason.CALLING_TITLE, SCANNER, 'refused: "MR9" is not in allowed_aet')
    told = refusals.tell()
    assert [(one["address"], one["calling"], one["times"]) for one in told] == [
        ("10.1.2.3", "MR9", 3), ("10.0.0.1", None, 1),
    ]  # fmt: skip
    assert told[0]["text"] == 'refused: "MR9" is not in allowed_aet'
    assert "allowed_aet" in str(told[0]["what_to_do"])
    assert refusals.tell("MR9") == refusals.tell("10.1.2.3") == told[:1]
    assert refusals.tell("MR1") == []


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_is_kept_with_advice_but_what_happens_every_day(reason: Reason) -> None:
    refusals = LastRefusals()
    refusals.note(reason, SCANNER, "x" * 10_000)
    assert [len(str(one["text"])) for one in refusals.tell()] == ([] if reason in ORDINARY else [MAX_TEXT])
    assert (reason in ADVICE) == (reason not in ORDINARY)


def test_a_stranger_with_ever_new_titles_displaces_only_its_own() -> None:
    refusals = LastRefusals()
    refusals.note(Reason.CALLING_TITLE, SCANNER, "refused")
    for number in range(10 * MAX_ENTRIES):
        refusals.note(Reason.CALLING_TITLE, Peer(host="10.6.6.6", calling=f"X{number}", called="Y"), "refused")
    told = refusals.tell()
    assert len(told) == MAX_ENTRIES
    assert refusals.tell("MR9") == told[-1:]
    assert told[0]["calling"] == f"X{10 * MAX_ENTRIES - 1}"


def test_ever_new_addresses_are_bounded_too() -> None:
    refusals = LastRefusals()
    for number in range(3 * MAX_ENTRIES):
        refusals.note(Reason.TLS, Peer(host=f"10.0.{number}.1"), "TLS refused")
    assert len(refusals.tell()) == MAX_ENTRIES
    assert len(refusals._times) == MAX_ENTRIES
