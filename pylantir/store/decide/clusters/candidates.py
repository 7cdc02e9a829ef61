"""The candidates for one scheduled procedure step: a patient's live records, and the items that a scanner has touched.

In: the records and items of one patient. Out: the candidates, in groups that belong together from the beginning: a
touched item with the records that stay with it, or a single record. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pylantir.entry import COMPLETED
from pylantir.store.decide.claims import STATUS, STUDY_UID, Claim, Item, Rules, uid_begun_by
from pylantir.store.decide.evidence import STEP_ID, Description, Sign, find_sign, is_another_patient, is_long_over

DATE = "scheduled_start_date"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A record, or a touched item, which stands for the records that it was made of.

    Attributes:
        origin: Number of the group that it belongs to from the beginning.
        sources: The record's source, or all sources that have given a record of the item.
        order: Its place among candidates that match equally well.
        values: What it is compared by.
        touched: It is a touched item, or a record that stays with one.
        claim: The record; None for an item.
    """

    origin: int
    sources: frozenset[str]
    order: tuple[int, str, str]
    values: Description
    touched: bool
    claim: Claim | None


def gather_candidates(
    ranked: Sequence[Claim], items: Sequence[Item], former_sources: Mapping[int, frozenset[str]], rules: Rules
) -> list[list[Candidate]]:
    """Return the groups of candidates, those of the touched items first.

    Args:
        ranked: The patient's live records, in the order of priority.
        items: The patient's items.
        former_sources: Item id -> sources that claimed the item and have withdrawn.
        rules: Priorities and the matching rule.
    """
    groups = _pin_to_items(ranked, items, former_sources)
    pinned = {one.claim.id for group in groups for one in group if one.claim}
    for claim in ranked:
        if claim.id not in pinned:
            order = rules.rank(claim.data_source, claim.record_key)
            sources = frozenset((claim.data_source,))
            groups.append([Candidate(len(groups), sources, order, claim.fields, touched=False, claim=claim)])
    return groups


def compare(a: Candidate, b: Candidate, rules: Rules) -> Sign | None:
    """Find the strongest evidence that two candidates are the same step."""
    max_minutes = rules.max_minutes_touched if a.touched or b.touched else rules.max_minutes
    return find_sign(a.values, b.values, rules, max_minutes)


def sources_of(group: Iterable[Candidate]) -> frozenset[str]:
    """Return the sources of all candidates of a group."""
    return frozenset().union(*(one.sources for one in group))


def given_values(group: Iterable[Candidate], *names: str) -> set[tuple[str, object]]:
    """Return the values that a group's candidates have for some fields, each with its field."""
    return {(name, value) for one in group for name in names if (value := one.values.get(name))}


def _pin_to_items(
    ranked: Sequence[Claim], items: Sequence[Item], former_sources: Mapping[int, frozenset[str]]
) -> list[list[Candidate]]:
    """Return for each touched item the item itself and the records that stay with it."""
    known = {item.id for item in items}
    groups: list[list[Candidate]] = []
    for number, item in enumerate(item for item in items if item.touched):
        former = former_sources.get(item.id, frozenset())
        own = _pin([claim for claim in ranked if claim.item_id == item.id or claim.item_id not in known], item, former)
        sources = former | {claim.data_source for claim in own} | {str(item.values["data_source"])}
        # A touched item comes before all records, whichever it has now: deciding again must give the same result.
        order = (-1, "", str(item.id))
        # The present values of its records can only rule out another record: sources no longer change the item.
        groups.append(
            [
                Candidate(number, sources, order, _values_of_item(item, own), touched=True, claim=None),
                *(Candidate(number, sources, order, claim.fields, touched=True, claim=claim) for claim in own),
            ]
        )
    return groups


def _pin(claims: Sequence[Claim], item: Item, former: frozenset[str]) -> list[Claim]:
    """Return the claims that stay with a touched item, one per source: those that it has and the one that began it."""
    own: dict[str, Claim] = {}
    for claim in claims:
        if claim.item_id == item.id and not _is_reused(claim, item):
            own.setdefault(claim.data_source, claim)
    for claim in claims:
        begun = uid_begun_by(claim) == item.values["generated_study_uid"]
        # After the exam, the same record with another day is a new step.
        begun &= item.values[STATUS] != COMPLETED or claim.fields[DATE] == item.values[DATE]
        begun = begun and not is_another_patient(item.values, claim.fields)
        if begun and claim.data_source not in own and claim.data_source not in former:
            own[claim.data_source] = claim
    return [claim for claim in claims if own.get(claim.data_source) is claim]


def _is_reused(claim: Claim, item: Item) -> bool:
    """Whether a record without an ID of its own is a later exam that reuses the number of a completed one."""
    return not claim.record_key.startswith("id:") and is_long_over(item.values, claim.fields[DATE])


def _values_of_item(item: Item, own: Sequence[Claim]) -> Description:
    """Return the values of an item that a source gave; values that Pylantir generated are no evidence."""
    values = dict(item.values)
    if values[STUDY_UID] == values["generated_study_uid"]:
        values[STUDY_UID] = None
    if values[STEP_ID] == str(item.id):
        values[STEP_ID] = None
    if own:
        # A source's correction of the patient ID does not change an item that a scanner has touched.
        values["patient_id"] = own[0].fields["patient_id"]
    return values
