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
        ("create", created() | {"00400252": text("CS", "IN PROGRESS", "COMPLETED")}, None, UID, (0x0106, 3)),
        ("create", created() | {"00400270": text("LO", "x")}, None, UID, (0x0106, 4)),
        ("create", created() | {"00100020": text("SQ", {})}, None, UID, (0x0106, 4)),
        ("create", created(), None, "no uid", (0x0117, 9)),
        ("set", ended(), None, UID, (0x0112, 8)),
        ("set", ended(), None, None, (0x0117, 9)),
        ("set", ended("STARTED"), begun(), UID, (0x0106, 3)),
        ("set", ended() | {"00400252": text("CS", "COMPLETED", "DISCONTINUED")}, begun(), UID, (0x0106, 3)),
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


def name(text_: str) -> Elements:
    return text("PN", {"Alphabetic": text_})


def with_step(**changes: Elements) -> Elements:
    step = {**created()["00400270"]["Value"][0], **{tag.removeprefix("t"): one for tag, one in changes.items()}}
    return {"00400270": text("SQ", step)}


REPEATED = [
    {"00400245": text("TM", "1030")},
    {"00400245": text("TM", "103000.0")},
    {"00400244": text("DA", "2026.01.05")},
    {"00100010": name("Doe^Jane^^")},
    {"00100010": name(" Doe^Jane ")},
    {"00100020": text("LO", " P1")},
    {"00400253": text("SH", "PPS1 ")},
    {"00100030": text("DA")},
    {"00100010": text("PN")},
    {"00100010": name("Roe^John")},
    {"00400241": text("AE", "MR2")},
    {"00100020": text("LO")},
    with_step(t00080050=text("SH", "A1")),
    with_step(t00081150=text("UI")),
    with_step(t0020000D=text("UI")),
    {"00400270": text("SQ")},
    {"0020000D": text("UI", "1.2.3")},
]


@pytest.mark.parametrize("repeated", REPEATED)
def test_an_end_that_repeats_the_beginning_in_other_words_is_stored(repeated: Elements) -> None:
    decision = ask("set", {**repeated, **ended()}, begun(), strict=False)
    assert code(decision) == (0, None)
    assert decision.instance is not None
    attributes = decision.instance.attributes
    assert decision.instance.status == "COMPLETED"
    for tag in ("00100010", "00100020", "00400244", "00400245", "00400241", "00400253"):
        assert attributes[tag] == created()[tag]
    assert attributes["00400270"]["Value"][0]["0020000D"] == text("UI", "1.2.3")


def test_a_different_value_that_stays_as_created_is_remarked_without_either() -> None:
    decision = ask("set", {"00100010": name("Roe^John"), "00100030": text("DA", "19800101")}, begun(), strict=False)
    assert decision.answer.remarks == ("PatientName stays as it was created",)
    assert decision.instance is not None
    assert decision.instance.attributes["00100030"] == text("DA", "19800101")
    assert code(ask("set", {"00100010": name("Roe^John")}, begun())) == (0x0106, 6)


def test_an_empty_value_deletes_neither_series_nor_dose() -> None:
    dose = text("SQ", {"00180060": text("DS", 120)})
    said = ask("set", {"00400340": ended()["00400340"], "0040030E": dose}, begun(), strict=False).instance
    last = ask("set", ended() | {"00400340": text("SQ"), "0040030E": text("SQ", {})}, said, strict=False)
    assert last.instance is not None
    assert last.instance.attributes["00400340"] == ended()["00400340"]
    assert last.instance.attributes["0040030E"] == dose
    assert last.answer.forgiven == ()
    assert sorted(last.answer.remarks) == [
        "(0040,030E) has no value: what was reported before stays",
        "PerformedSeriesSequence has no value: what was reported before stays",
    ]
    assert code(ask("set", ended() | {"00400340": text("SQ")}, said)) == (0x0121, 2)


def test_an_empty_value_of_a_step_is_filled() -> None:
    more = with_step(t00080050=text("SH", "A1"), t0020000D=text("UI", "1.2.3"))
    decision = ask("set", more, begun(), strict=False)
    assert decision.instance is not None
    (step,) = decision.instance.attributes["00400270"]["Value"]
    assert (step["00080050"], step["00400009"]) == (text("SH", "A1"), text("SH"))
    assert decision.changed == ("00400270",)


@pytest.mark.parametrize(
    "other",
    [
        {"00100020": text("LO", "P2")},
        {"00100020": text("LO", "p1")},
        with_step(t0020000D=text("UI", "1.2.4")),
        {"0020000D": text("UI", "1.2.4")},
        {"00400275": text("SQ", {"0020000D": text("UI", "1.2.4")})},
    ],
)
@pytest.mark.parametrize("strict", [True, False])
def test_another_patient_or_study_is_refused_in_both_modes(other: Elements, strict: bool) -> None:
    decision = ask("set", {**other, **ended()}, begun(), strict=strict)
    assert decision.instance is None


@pytest.mark.parametrize(
    ("uid", "lenient"),
    [("1.2.03.4", 0), ("01.2", 0), ("9.9", 0), ("1..2", 0x0117), ("1.2.x", 0x0117), ("1." * 40 + "1", 0x0117)],
)
def test_a_uid_with_leading_zeros_is_accepted_with_a_remark(uid: str, lenient: int) -> None:
    assert code(ask("create", created(), uid=uid)) == (0x0117, 9)
    decision = ask("create", created(), uid=uid, strict=False)
    assert decision.answer.status == lenient
    assert bool(decision.answer.remarks) == (lenient == 0)


@pytest.mark.parametrize("tag", ["00081032", "00400340", "00400254", "00100010"])
def test_what_is_of_the_wrong_form_and_matters_to_nobody_is_left_out(tag: str) -> None:
    wrong = text("SQ", {}) if created()[tag]["vr"] != "SQ" else text("LO", "x")
    assert code(ask("create", {**created(), tag: wrong})) == (0x0106, 4)
    decision = ask("create", {**created(), tag: wrong}, strict=False)
    assert decision.instance is not None
    assert tag not in decision.instance.attributes
    assert len(decision.answer.remarks) == 1


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize(
    "several",
    [
        {"00100020": text("LO", "P1", "P2")},
        {"0020000D": text("UI", "1.2.3", "1.2.4")},
        {"00400270": text("SQ", {"0020000D": text("UI", "1.2.3", "1.2.4")})},
    ],
    ids=["patients", "studies", "studies of a step"],
)
def test_which_of_several_patients_or_studies_is_meant_is_not_guessed(several: Elements, strict: bool) -> None:
    assert code(ask("create", {**created(), **several}, strict=strict)) == (0x0106, 3)
    assert code(ask("set", {**ended(), **several}, begun(), strict=strict))[0] == 0x0106


@pytest.mark.parametrize("said", ["in progress", "IN_PROGRESS", "IN  PROGRESS", "In-Progress", "INPROGRESS"])
def test_a_status_is_understood_in_another_spelling_unless_it_is_strict(said: str) -> None:
    attributes = {**created(), "00400252": text("CS", said)}
    assert code(ask("create", attributes, strict=False)) == (0, None)
    assert code(ask("create", attributes))[0] == 0x0106


def test_what_could_not_be_read_is_remarked_or_in_strict_mode_refused() -> None:
    oddities = (("00101030", "stored as the text that came: not a number"),)
    request = MppsRequest(
        request_id="r1", operation="create", sop_instance_uid=UID, scanner="MR1",
        attributes={**created(), "00101030": text("DS", "70kg")}, oddities=oddities,
    )  # fmt: skip
    lenient = decide(request, None, strict=False)
    assert lenient.answer.remarks == ("(0010,1030) stored as the text that came: not a number",)
    assert lenient.instance is not None
    assert lenient.instance.attributes["00101030"] == text("DS", "70kg")
    strict = decide(request, None, strict=True)
    assert (strict.answer.status, strict.answer.error_id, strict.answer.tags) == (0x0106, 12, ("00101030",))


def test_many_remarks_are_told_in_short() -> None:
    oddities = [(f"00290{number:03X}", "left out: odd") for number in range(100)]
    request = MppsRequest(
        request_id="r1",
        operation="create",
        sop_instance_uid=UID,
        scanner="MR1",
        attributes=created(),
        oddities=oddities,
    )
    remarks = decide(request, None, strict=False).answer.remarks
    assert (len(remarks), remarks[-1]) == (21, "and 80 more")


@given(st.sampled_from(REPEATED), st.sampled_from(REPEATED))
def test_a_repeat_in_other_words_is_no_change(one: Elements, other: Elements) -> None:
    first = ask("set", {**one, **other}, begun(), strict=False).instance
    assert first is not None
    again = ask("set", {**one, **other}, first, strict=False)
    assert again.instance == first
    assert again.changed == ()
