"""Decides which items the records of one patient make: the central decision of the worklist. Pure.

In: all live records of one patient (claims) and the patient's items. Out: which records describe the same scheduled
procedure step, with which values, on which item. It uses no database, clock or random number, so the order in which
records arrive does not matter.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from types import MappingProxyType

from pylantir.entry import CANCELED, COMPLETED, DISCONTINUED, SCHEDULED, with_fallbacks
from pylantir.store.decide.claims import (
    FORMER_UIDS,
    STATUS,
    STUDY_UID,
    Claim,
    Item,
    ItemDecision,
    Patient,
    Performed,
    Rules,
    uid_begun_by,
)
from pylantir.store.decide.clusters.apart import Apart
from pylantir.store.decide.clusters.joining import cluster_claims
from pylantir.store.decide.evidence import ISSUER, is_another_patient
from pylantir.store.decide.merging import find_wishes, merge_fields

_FOLLOWED = ("patient_id", "scheduled_start_date", "scheduled_start_time", "scheduled_station_aetitle")
"""The fields that an item with a discontinued exam takes from its sources."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupDecision:
    """The items that the live records of one patient make.

    Attributes:
        items: A decision per item that is not cancelled.
        cancelled: The items that no record claims any more and no scanner has finished.
        apart: The pairs of `items` that are kept apart although their numbers agree.
    """

    items: list[ItemDecision]
    cancelled: list[Item]
    apart: list[Apart[ItemDecision]]

    def only(self, items: list[ItemDecision]) -> GroupDecision:
        """Return the decision with only some of its `items`."""
        if len(items) == len(self.items):
            return self
        kept = {id(one) for one in items}
        apart = [one for one in self.apart if id(one.first) in kept and id(one.second) in kept]
        return GroupDecision(items=items, cancelled=self.cancelled, apart=apart)


def decide_group(
    claims: Sequence[Claim],
    items: Sequence[Item],
    former_sources: Mapping[int, frozenset[str]],
    rules: Rules,
    performed: Sequence[Performed] = (),
    supplied: Mapping[str, Set[Patient]] = MappingProxyType({}),
) -> GroupDecision:
    """Decide which items the live records of one patient make.

    Args:
        claims: All live records of the patient, from all sources.
        items: All items of the patient, cancelled ones included.
        former_sources: Item id -> sources that claimed the item and have withdrawn.
        rules: Priorities and the matching rule.
        performed: Steps of the patient's completed exams whose items were deleted.
        supplied: Study UIDs that would be generated but that were supplied already, and for whom.
    """
    if len(claims) == 1 and not items and not performed:
        # The ordinary case: a new patient.
        sole = _decide_item(list(claims), None, set(), performed, supplied)
        return GroupDecision(items=[sole], cancelled=[], apart=[])
    ranked = sorted(claims, key=lambda claim: rules.rank(claim.data_source, claim.record_key))
    clusters, apart = cluster_claims(ranked, items, former_sources, rules)
    chosen = _choose_items(clusters, items, rules)
    decisions: dict[int, ItemDecision] = {}
    taken = {item.values[name] for item in items for name in (STUDY_UID, "generated_study_uid")}
    for number, (members, item) in enumerate(zip(clusters, chosen, strict=True)):
        former = former_sources.get(item.id, frozenset()) if item else frozenset()
        if item and not is_frozen(item) and (_abandoned(members, former, rules) or not members):
            continue
        decisions[number] = _decide_item(members, item, taken, performed, supplied)
    kept = {decision.item.id for decision in decisions.values() if decision.item}
    return GroupDecision(
        items=list(decisions.values()),
        cancelled=[
            item for item in items
            if item.id not in kept and not is_frozen(item) and item.values[STATUS] in (SCHEDULED, DISCONTINUED)
        ],
        apart=[
            Apart(decisions[one.first], decisions[one.second], one.fields, one.unsaid)
            for one in apart if one.first in decisions and one.second in decisions
        ],
    )  # fmt: skip


def is_frozen(item: Item) -> bool:
    """Whether no source may change the item any more; an item with a discontinued exam follows its sources."""
    return item.touched and item.values[STATUS] != DISCONTINUED


def _is_booked_anew(members: Sequence[Claim], item: Item) -> bool:
    """Whether an exam that an operator has cancelled is booked for another day now."""
    date = "scheduled_start_date"
    return bool(members) and item.values[STATUS] == CANCELED and members[0].fields[date] != item.values[date]


def _abandoned(members: Iterable[Claim], former: frozenset[str], rules: Rules) -> bool:
    """Whether a configured source has withdrawn the item and only sources that are not enabled still claim it."""
    if any(claim.data_source in rules.ranks for claim in members):
        return False
    return any(source in rules.ranks for source in former)


def _choose_items(clusters: Sequence[list[Claim]], items: Sequence[Item], rules: Rules) -> list[Item | None]:
    """Give each cluster the item that its first-ranked record had; items in use come before cancelled ones.

    A derived UID finds an item cancelled earlier.
    """
    free = {item.id: item for item in items}
    chosen: list[Item | None] = [None] * len(clusters)
    touched = [item for item in items if item.touched]
    for number, item in enumerate(touched):
        chosen[number] = free.pop(item.id)
    holders = (
        sorted(
            (
                (free[claim.item_id].values[STATUS] == CANCELED, rules.rank(claim.data_source, claim.record_key)),
                number,
                claim.item_id,
            )
            for number, members in enumerate(clusters)
            for claim in members
            if chosen[number] is None and claim.item_id in free
        )
        if len(clusters) > len(touched)
        else []
    )
    for _, number, item_id in holders:
        if chosen[number] is None:
            chosen[number] = free.pop(item_id, None)
    by_uid = {item.values["generated_study_uid"]: item for item in free.values()}
    for number, members in enumerate(clusters):
        if chosen[number] is None and by_uid:
            begun = by_uid.get(uid_begun_by(members[0]))
            if begun and not is_another_patient(begun.values, members[0].fields):
                chosen[number] = by_uid.pop(begun.values["generated_study_uid"])
    return chosen


def _decide_item(
    members: list[Claim],
    item: Item | None,
    taken: set[str | int | None],
    performed: Sequence[Performed],
    supplied: Mapping[str, Set[Patient]],
) -> ItemDecision:
    if item and is_frozen(item) and not _is_booked_anew(members, item):
        return ItemDecision(item=item, claims=tuple(members), values={}, conflicts=find_wishes(members, item))
    merged, conflicts = merge_fields(members)
    merged = with_fallbacks(merged)
    if item and item.touched and merged["scheduled_start_date"] == item.values["scheduled_start_date"]:
        followed = {name: merged.get(name) for name in _FOLLOWED}
        wishes = tuple(wish for wish in find_wishes(members, item) if wish.field not in _FOLLOWED)
        return ItemDecision(item=item, claims=tuple(members), values=followed, conflicts=wishes)
    values: dict[str, str | None] = {STATUS: SCHEDULED, **merged, "data_source": members[0].data_source}
    patient = Patient(merged["patient_id"], merged.get(ISSUER))
    own = [one for one in performed if patient.may_be(patient.patient_id, one.issuer)]
    if item is None:
        # An exam performed before this booking was made is another one: its UID is not used again.
        taken |= {one.study_uid for one in performed if one not in own or one.day < merged["scheduled_start_date"]}
    foreign = {uid for uid, owners in supplied.items() if not all(patient.may_be(*owner) for owner in owners)}
    values |= _study_uids(members, merged.get(STUDY_UID), item, taken, foreign)
    done = _find_performed(values, own) if item is None else None
    if done:
        values |= {STATUS: COMPLETED, "exam_ended_on": done.day, STUDY_UID: done.study_uid}
    return ItemDecision(item=item, claims=tuple(members), values=values, conflicts=conflicts)


def _find_performed(values: Mapping[str, str | None], performed: Sequence[Performed]) -> Performed | None:
    """Return the completed exam that a new item was booked for, if it is listed again after its item was deleted."""
    for one in performed:
        is_same = one.study_uid == values[STUDY_UID] or (
            one.accession_number and one.accession_number == values.get("accession_number")
        )
        if is_same and one.day >= str(values["scheduled_start_date"]):
            return one
    return None


def _study_uids(
    members: list[Claim],
    supplied: str | None,
    item: Item | None,
    taken: set[str | int | None],
    foreign_uids: Set[str],
) -> dict[str, str | None]:
    """Take the records' study UID, else the generated one, for a new item or one that is open.

    A generated UID that another patient's source has supplied since is replaced by another generated one.
    """
    current = _text(item.values[STUDY_UID]) if item else None
    lost = item is not None and item.values["generated_study_uid"] in foreign_uids
    if item is None or not current or lost:
        generated = uid_begun_by(members[0])
        repetition = 0
        while generated in taken or generated in foreign_uids:
            repetition += 1
            generated = uid_begun_by(members[0], repetition)
        taken.add(generated)
        return {STUDY_UID: supplied or generated, "generated_study_uid": generated}
    own = _text(item.values["generated_study_uid"])
    if own is None or item.values[STATUS] not in (SCHEDULED, CANCELED, DISCONTINUED):
        return {STUDY_UID: current, "generated_study_uid": own}
    uid = supplied or own
    uids: dict[str, str | None] = {STUDY_UID: uid, "generated_study_uid": own}
    known = former = {*json.loads(str(item.values.get(FORMER_UIDS) or "[]"))}
    if current not in (uid, own):
        # A scanner may have read the old UID: a report that names it still means this item.
        former = {*former, current} - ({uid} - {own})
    if item.values["patient_id"] != members[0].fields["patient_id"]:
        # The record that it was generated from may begin another item of the former patient; see `ask_moved`.
        former = {*former, own}
    if former != known:
        uids[FORMER_UIDS] = json.dumps(sorted(former))
    return uids


def _text(value: str | int | None) -> str | None:
    return None if value is None else str(value)
