"""What holds for any records and items of a patient."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pylantir.entry import CANCELED, COMPLETED, RECORD_FIELDS, SCHEDULED, WORKLIST_FIELDS, with_fallbacks
from pylantir.store.decide.claims import Claim, Item, ItemDecision, Rules
from pylantir.store.decide.evidence import IDENTITY, identity_objections
from pylantir.store.decide.merging import OF_THE_PATIENT
from pylantir.store.decide.reconcile import decide_group

SOURCES = ("ris", "redcap", "csv", "gone")
RULES = Rules(ranks={"ris": 0, "redcap": 1, "csv": 2})
STATUS = "performed_procedure_step_status"
MADE_UP = {"study_instance_uid", "generated_study_uid"}


def few(*values: str) -> st.SearchStrategy[str]:
    return st.sampled_from(values)


FIELDS = st.fixed_dictionaries(
    {"patient_id": st.just("P1"), "scheduled_start_date": few("20260701", "20260702")},
    optional={
        "scheduled_start_time": few("080000", "083000", "120000"),
        "modality": few("MR", "CT"),
        "accession_number": few("A1", "A2"),
        "study_instance_uid": few("1.2.1", "1.2.2"),
        "scheduled_procedure_step_id": few("S1", "S2"),
        "patient_birth_date": few("19800101", "19800517", "19810101"),
        "patient_sex": few("M", "F"),
        "patient_name": few("Smith^John", "Smith^Mary", "P1"),
        "patient_weight_lb": few("150", "200"),
        "protocol_name": few("BRAIN", "KNEE"),
    },
)
RECORDS = st.lists(st.tuples(few(*SOURCES), FIELDS), max_size=8).map(
    lambda drawn: [Claim(n, source, f"id:{n}", fields, None) for n, (source, fields) in enumerate(drawn)]
)


def stored(decision: ItemDecision, number: int, status: str | None = None) -> Item:
    """The item that a decision makes, as the database would keep it."""
    if not decision.values:
        assert decision.item is not None
        return decision.item
    row: dict[str, Any] = {
        **dict.fromkeys((*RECORD_FIELDS, "former_study_uids")),
        **decision.values,
    }
    row["scheduled_procedure_step_id"] = row["scheduled_procedure_step_id"] or str(number)
    touched = bool(decision.item and decision.item.touched) or status not in (None, CANCELED)
    return Item(number, row | {"scanner_touched": int(touched), STATUS: status or row[STATUS]})


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Claim], list[Item]]:
    """Claims with the items that an earlier decision gave them; some are touched, some cancelled, some have moved."""
    before = draw(RECORDS)
    decisions = decide_group(before, [], {}, RULES).items
    status = st.sampled_from([None, None, COMPLETED, CANCELED])
    items = [stored(decision, number, draw(status)) for number, decision in enumerate(decisions, start=100)]
    home = {claim.id: item.id for item, decision in zip(items, decisions, strict=True) for claim in decision.claims}
    claims = [
        Claim(
            claim.id,
            claim.data_source,
            claim.record_key,
            draw(st.one_of(st.just(claim.fields), FIELDS)),
            home[claim.id],
        )
        for claim in before
        if draw(st.integers(0, 3))
    ]
    added = [Claim(50 + one.id, one.data_source, f"id:{50 + one.id}", one.fields, None) for one in draw(RECORDS)[:3]]
    return claims + added, items


def in_form(decisions: Sequence[ItemDecision]) -> set[tuple[object, ...]]:
    return {
        (
            tuple(claim.id for claim in one.claims),
            one.item.id if one.item else None,
            tuple(sorted((name, value or "") for name, value in one.values.items())),
            one.conflicts,
        )
        for one in decisions
    }


@given(histories(), st.randoms(use_true_random=False))
@settings(max_examples=150)
def test_the_order_of_records_and_items_does_not_matter(
    history: tuple[list[Claim], list[Item]], random: Random
) -> None:
    claims, items = history
    decided = decide_group(claims, items, {}, RULES)
    decisions, cancelled = decided.items, decided.cancelled
    random.shuffle(claims)
    random.shuffle(items)
    anew = decide_group(claims, items, {}, RULES)
    again, cancelled_again = anew.items, anew.cancelled
    assert in_form(again) == in_form(decisions)
    assert {one.id for one in cancelled_again} == {one.id for one in cancelled}


@given(histories())
@settings(max_examples=150)
def test_every_record_has_one_item_and_no_item_two_records_of_a_source(
    history: tuple[list[Claim], list[Item]],
) -> None:
    claims, items = history
    decided = decide_group(claims, items, {}, RULES)
    decisions, cancelled = decided.items, decided.cancelled
    placed = [claim.id for decision in decisions for claim in decision.claims]
    assert sorted(placed) == sorted(claim.id for claim in claims)
    for decision in decisions:
        sources = [claim.data_source for claim in decision.claims]
        assert len(sources) == len(set(sources))
    used = [decision.item.id for decision in decisions if decision.item]
    assert len(used) == len(set(used))
    assert not set(used) & {one.id for one in cancelled}


def contradict(a: Claim, b: Claim) -> bool:
    """A rule never applies where a stronger key, or the birth date, differs."""

    def says(name: str) -> tuple[bool, bool]:
        first, second = a.fields.get(name), b.fields.get(name)
        return bool(first and first == second), bool(first and second and first != second)

    dates = a.fields.get("patient_birth_date", ""), b.fields.get("patient_birth_date", "")
    if (
        all(dates)
        and dates[0] != dates[1]
        and not (dates[0][:4] == dates[1][:4] and "0101" in (dates[0][4:], dates[1][4:]))
    ):
        return True
    if says("scheduled_procedure_step_id")[1]:
        return True
    same_uid, other_uid = says("study_instance_uid")
    return other_uid or (not same_uid and says("accession_number")[1])


@given(histories())
@settings(max_examples=150)
def test_nothing_is_merged_against_a_contradiction(history: tuple[list[Claim], list[Item]]) -> None:
    claims, items = history
    for decision in decide_group(claims, items, {}, RULES).items:
        if decision.values:
            assert not any(contradict(a, b) for a, b in combinations(decision.claims, 2))


@given(histories())
@settings(max_examples=150)
def test_touched_items_stay_and_the_others_have_the_uid_that_is_supplied_else_their_own(
    history: tuple[list[Claim], list[Item]],
) -> None:
    claims, items = history
    decided = decide_group(claims, items, {}, RULES)
    decisions, cancelled = decided.items, decided.cancelled
    by_item = {one.item.id: one for one in decisions if one.item}
    for item in items:
        if item.touched:
            assert by_item[item.id].values == {}
            assert item not in cancelled
            owners = {claim.data_source for claim in by_item[item.id].claims}
            held = {claim.data_source for claim in claims if claim.item_id == item.id}
            assert held <= owners
        elif item.id in by_item:
            values = by_item[item.id].values
            assert values["generated_study_uid"] == item.values["generated_study_uid"]
            supplied = {claim.fields.get("study_instance_uid") for claim in by_item[item.id].claims} - {None}
            assert {values["study_instance_uid"]} == (supplied or {item.values["generated_study_uid"]})
    generated = [one.values["generated_study_uid"] for one in items] + [
        one.values["generated_study_uid"] for one in decisions if one.item is None
    ]
    assert len(generated) == len(set(generated))


@given(histories())
@settings(max_examples=150)
def test_values_are_per_field_those_of_the_first_record_that_has_one(
    history: tuple[list[Claim], list[Item]],
) -> None:
    claims, items = history
    for decision in decide_group(claims, items, {}, RULES).items:
        if not decision.values:
            continue
        members = sorted(decision.claims, key=lambda claim: (RULES.ranks.get(claim.data_source, 9), claim.record_key))
        for name in WORKLIST_FIELDS:
            given_values = [claim.fields[name] for claim in members if name in claim.fields]
            fallback = {**with_fallbacks({"patient_id": "P1"}), STATUS: SCHEDULED}.get(name)
            if name not in MADE_UP | OF_THE_PATIENT:
                assert decision.values.get(name) == (given_values[0] if given_values else fallback)


@given(histories())
@settings(max_examples=300)
def test_what_is_said_of_the_patient_comes_from_records_that_contradict_neither_the_owner_nor_each_other(
    history: tuple[list[Claim], list[Item]],
) -> None:
    claims, items = history
    for decision in decide_group(claims, items, {}, RULES).items:
        if not decision.values:
            continue
        believed: list[Claim] = []
        for claim in sorted(decision.claims, key=lambda one: (RULES.ranks.get(one.data_source, 9), one.record_key)):
            if not any(identity_objections(other.fields, claim.fields) for other in believed):
                believed.append(claim)
        for name in (*IDENTITY, "patient_weight_lb"):
            said = {one.fields[name] for one in believed if name in one.fields}
            assert decision.values.get(name) in said | ({"P1"} if name == "patient_name" else {None})


@given(histories())
@settings(max_examples=150)
def test_deciding_again_changes_nothing(history: tuple[list[Claim], list[Item]]) -> None:
    claims, items = history
    decided = decide_group(claims, items, {}, RULES)
    decisions, cancelled = decided.items, decided.cancelled
    numbers = [one.item.id if one.item else 200 + n for n, one in enumerate(decisions)]
    now = [stored(one, number) for one, number in zip(decisions, numbers, strict=True)]
    settled = [
        Claim(claim.id, claim.data_source, claim.record_key, claim.fields, item.id)
        for item, decision in zip(now, decisions, strict=True)
        for claim in decision.claims
    ]
    gone = [Item(one.id, {**one.values, STATUS: CANCELED}) for one in cancelled]
    rest = [one for one in items if one.id not in {other.id for other in [*now, *gone]}]
    anew = decide_group(settled, [*now, *gone, *rest], {}, RULES)
    again, cancelled_again = anew.items, anew.cancelled
    assert not cancelled_again
    for decision in again:
        assert decision.item is not None
        if decision.values:
            changed = {n for n, v in decision.values.items() if decision.item.values.get(n) != v}
            assert changed <= {"scheduled_procedure_step_id", "requested_procedure_id"}


ANY_DISTANCE = Rules(ranks=RULES.ranks, max_minutes=None)
EXACT = st.lists(
    st.tuples(few("ris", "csv"), st.integers(1, 23 * 60 + 59)), min_size=2, max_size=9, unique_by=lambda one: one[1]
)


@given(EXACT)
def test_one_to_one_the_nearest_start_time_first(drawn: list[tuple[str, int]]) -> None:
    claims = [
        Claim(
            n, source, f"id:{n}",
            {"patient_id": "P1", "scheduled_start_date": "20260701", "scheduled_start_time": f"{m // 60:02}{m % 60:02}00"},
            None,
        )
        for n, (source, m) in enumerate(drawn)
    ]  # fmt: skip
    minutes = {claim.id: m for claim, (_, m) in zip(claims, drawn, strict=True)}
    partner = {}
    for decision in decide_group(claims, [], {}, ANY_DISTANCE).items:
        if len(decision.claims) == 2:
            a, b = (claim.id for claim in decision.claims)
            partner[a], partner[b] = b, a
    free = [claim for claim in claims if claim.id not in partner]
    assert len({claim.data_source for claim in free}) <= 1
    # Stable: no two records are nearer to each other than both are to their partners.
    for a, b in combinations(claims, 2):
        if a.data_source != b.data_source:
            apart = abs(minutes[a.id] - minutes[b.id])
            own = [abs(minutes[one.id] - minutes[partner[one.id]]) if one.id in partner else 24 * 60 for one in (a, b)]
            assert apart >= min(own)
