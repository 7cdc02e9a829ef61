"""MPPS: what is accepted, what is refused with which code, and that a status never goes back."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylantir.mpps.model import MppsAnswer, MppsInstance, MppsRequest
from pylantir.mpps.rules import Decision, decide

UID = "1.2.840.99.1"
Elements = dict[str, Any]


def text(vr: str, *values: object) -> Elements:
    return {"vr": vr, "Value": list(values)} if values else {"vr": vr}


def created() -> Elements:
    """Everything that the standard asks for at N-CREATE."""
    step = {
        "0020000D": text("UI", "1.2.3"),
        **{tag: text("SQ") for tag in ("00081110", "00400008")},
        **{tag: text("SH") for tag in ("00080050", "00401001", "00321060", "00400009", "00400007")},
    }
    return {
        "00400270": text("SQ", step),
        "00100010": text("PN", {"Alphabetic": "Doe^Jane"}),
        "00100020": text("LO", "P1"),
        "00100030": text("DA"),
        "00100040": text("CS"),
        "00400253": text("SH", "PPS1"),
        "00400241": text("AE", "MR1"),
        "00400244": text("DA", "20260105"),
        "00400245": text("TM", "103000"),
        "00400252": text("CS", "IN PROGRESS"),
        "00080060": text("CS", "MR"),
        **{tag: text("LO") for tag in ("00400242", "00400243", "00400254", "00400255", "00200010")},
        **{tag: text("DA") for tag in ("00400250", "00400251")},
        **{tag: text("SQ") for tag in ("00081120", "00081032", "00400260", "00400340")},
    }


def ended(status: str = "COMPLETED") -> Elements:
    series = {"00181030": text("LO", "BRAIN"), "0020000E": text("UI", "1.2.3.4")}
    return {
        "00400252": text("CS", status),
        "00400250": text("DA", "20260105"),
        "00400251": text("TM", "110000"),
        "00400340": text("SQ", series),
    }


def ask(
    operation: Any,
    attributes: Elements,
    stored: MppsInstance | None = None,
    *,
    strict: bool = True,
    uid: str | None = UID,
) -> Decision:
    request = MppsRequest(
        request_id="r1", operation=operation, sop_instance_uid=uid, scanner="MR1", attributes=attributes
    )
    return decide(request, stored, strict=strict)


def begun(**changes: Any) -> MppsInstance:
    instance = ask("create", {**created(), **changes}).instance
    assert instance is not None
    return instance


def code(decision: Decision) -> tuple[int, int | None]:
    assert (decision.instance is None) == (decision.answer.status != 0)
    return decision.answer.status, decision.answer.error_id


@pytest.mark.parametrize("strict", [True, False])
def test_a_whole_report_is_accepted_from_beginning_to_end(strict: bool) -> None:
    first = ask("create", {**created(), "00080005": text("CS", "ISO_IR 100")}, strict=strict)
    assert first.answer == MppsAnswer(status=0, sop_instance_uid=UID)
    assert first.instance is not None
    assert "00080005" not in first.instance.attributes
    second = ask("set", {"00400340": ended()["00400340"]}, first.instance, strict=strict)
    assert (code(second), second.changed) == ((0, None), ("00400340",))
    third = ask("set", ended(), second.instance, strict=strict)
    assert code(third) == (0, None)
    assert third.instance is not None
    assert third.instance.status == "COMPLETED"
    assert third.instance.attributes["00100020"] == text("LO", "P1")


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize(
    ("operation", "attributes", "stored", "uid", "expected"),
    [
        ("create", created(), begun(), UID, (0x0111, 7)),
        ("create", created() | {"00400252": text("CS", "COMPLETED")}, None, UID, (0x0106, 3)),
        ("create", created() | {"00400270": text("LO", "x")}, None, UID, (0x0106, 4)),
        ("create", created() | {"00100020": text("SQ", {})}, None, UID, (0x0106, 4)),
        ("create", created(), None, "no uid", (0x0117, 9)),
        ("set", ended(), None, UID, (0x0112, 8)),
        ("set", ended(), None, None, (0x0117, 9)),
        ("set", ended("STARTED"), begun(), UID, (0x0106, 3)),
        ("set", {"00100020": text("LO", "P2")}, begun(), UID, (0x0106, 6)),
        ("set", {"00400270": text("SQ", {"0020000D": text("UI", "9.9")})}, begun(), UID, (0x0106, 6)),
    ],
)
def test_what_is_wrong_is_refused_in_both_modes(
    operation: str,
    attributes: Elements,
    stored: MppsInstance | None,
    uid: str | None,
    expected: tuple[int, int],
    strict: bool,
) -> None:
    decision = ask(operation, attributes, stored, strict=strict, uid=uid)
    assert code(decision) == expected
    assert 0 < len(decision.answer.comment) <= 64


@pytest.mark.parametrize("status", ["COMPLETED", "DISCONTINUED"])
def test_nothing_changes_after_the_end(status: str) -> None:
    over = ask("set", ended(status), begun()).instance
    decision = ask("set", {"00400254": text("LO", "late")}, over, strict=False)
    assert code(decision) == (0x0110, 0xA710)
    assert decision.answer.comment == "Performed Procedure Step Object may no longer be updated"


def without(attributes: Elements, *path: str) -> Elements:
    result = copy.deepcopy(attributes)
    level = result
    for tag in path[:-1]:
        level = level[tag]["Value"][0]
    del level[path[-1]]
    return result


def emptied(attributes: Elements, *path: str) -> Elements:
    result = copy.deepcopy(attributes)
    level = result
    for tag in path[:-1]:
        level = level[tag]["Value"][0]
    del level[path[-1]]["Value"]
    return result


@pytest.mark.parametrize(
    ("attributes", "expected", "name"),
    [
        *((without(created(), tag), (0x0120, 1), None) for tag in created()),
        *(
            (emptied(created(), tag), (0x0121, 2), None)
            for tag in ("00400270", "00400253", "00400241", "00400244", "00400245", "00400252", "00080060")
        ),
        (without(created(), "00400270", "0020000D"), (0x0120, 1), "StudyInstanceUID"),
        (emptied(created(), "00400270", "0020000D"), (0x0121, 2), "StudyInstanceUID"),
        (without(created(), "00400270", "00080050"), (0x0120, 1), "AccessionNumber"),
    ],
)
def test_what_is_missing_at_the_beginning_is_refused_or_forgiven_by_name(
    attributes: Elements, expected: tuple[int, int], name: str | None
) -> None:
    refused = ask("create", attributes)
    assert code(refused) == expected
    accepted = ask("create", attributes, strict=False)
    assert code(accepted) == (0, None)
    (forgiven,) = accepted.answer.forgiven
    assert refused.answer.comment.startswith(f"{forgiven} ")
    assert name in (None, forgiven)
    assert accepted.instance is not None
    assert accepted.instance.attributes["00400252"]["Value"] == ["IN PROGRESS"]


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"00400252": text("CS", "COMPLETED")}, (0x0121, 2)),
        (without(ended(), "00400340"), (0x0121, 2)),
        (without(ended("DISCONTINUED"), "00400251"), (0x0121, 2)),
        (without(ended(), "00400340", "0020000E"), (0x0120, 1)),
        (emptied(ended(), "00400340", "00181030"), (0x0121, 2)),
        (emptied(ended(), "00400252"), (0x0121, 2)),
        (ended() | {"00400280": text("ST", "comment")}, (0x0105, 5)),
    ],
)
def test_what_is_missing_at_the_end_is_refused_or_forgiven(attributes: Elements, expected: tuple[int, int]) -> None:
    assert code(ask("set", attributes, begun())) == expected
    assert code(ask("set", attributes, begun(), strict=False)) == (0, None)


def test_an_end_may_be_told_in_several_steps() -> None:
    details = without(ended(), "00400252")
    half = ask("set", details, begun()).instance
    decision = ask("set", {"00400252": text("CS", "DISCONTINUED")}, half)
    assert decision.instance is not None
    assert decision.instance.status == "DISCONTINUED"


def test_an_instance_without_a_uid_gets_one_that_a_repeat_of_the_request_gets_again() -> None:
    assert code(ask("create", created(), uid=None)) == (0x0117, 9)
    first, again = (ask("create", created(), uid=None, strict=False) for _ in range(2))
    assert first.answer.sop_instance_uid == again.answer.sop_instance_uid
    assert str(first.answer.sop_instance_uid).startswith("2.25.")
    assert first.answer.forgiven == ("AffectedSOPInstanceUID",)


def test_what_was_not_given_at_first_may_come_later_when_lenient() -> None:
    stored = ask("create", without(created(), "00100020"), strict=False).instance
    later = ask("set", {"00100020": text("LO", "P1")}, stored, strict=False)
    assert later.instance is not None
    assert later.instance.attributes["00100020"] == text("LO", "P1")
    assert code(ask("set", {"00100020": text("LO", "P2")}, later.instance, strict=False)) == (0x0106, 6)


def test_repeating_what_may_not_change_is_no_change() -> None:
    decision = ask("set", created() | ended(), begun())
    assert code(decision) == (0, None)
    assert set(decision.changed) == set(ended())


def test_an_answer_survives_its_way_as_json() -> None:
    answer = ask("set", {"00100020": text("LO", "P2")}, begun()).answer
    assert MppsAnswer.from_json(answer.as_json()) == answer
    assert answer.tags == ("00100020",)


words = st.sampled_from(["IN PROGRESS", "COMPLETED", "DISCONTINUED", "SCHEDULED", "", "completed"])
reports = st.tuples(st.sampled_from(["create", "set"]), words, st.booleans(), st.booleans())


@given(st.lists(reports, max_size=12))
def test_whatever_is_reported_the_status_only_goes_forward(sequence: list[tuple[str, str, bool, bool]]) -> None:
    stored: MppsInstance | None = None
    for operation, status, whole, strict in sequence:
        attributes: Elements = {"00400252": text("CS", status) if status else text("CS")}
        if whole:
            attributes = (created() if operation == "create" else ended()) | attributes
        decision = ask(operation, attributes, stored, strict=strict)
        if decision.instance is None:
            assert decision.answer.status in {0x0105, 0x0106, 0x0110, 0x0111, 0x0112, 0x0120, 0x0121}
            assert decision.answer.error_id
            continue
        before = stored.status if stored else None
        allowed = {None: {"IN PROGRESS"}, "IN PROGRESS": {"IN PROGRESS", "COMPLETED", "DISCONTINUED"}}
        assert decision.instance.status in allowed.get(before, set())
        stored = decision.instance
