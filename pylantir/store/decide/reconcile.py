"""What the records of one patient amount to: the pure decision at the heart of the worklist.

In: all live records of one patient (claims) and the patient's items. Out: which records describe the same scheduled
procedure step, with which values, on which item. No database, no clock, no chance: the order of arrival cannot matter.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from pylantir.entry import ATTRIBUTES_FIELD, CANCELED, RECORD_ID_FIELD, SCHEDULED, with_fallbacks
from pylantir.store.decide.claims import (
    SCANNER,
    STATUS,
    STUDY_UID,
    Claim,
    Conflict,
    Item,
    ItemDecision,
    Rules,
    uid_begun_by,
)
from pylantir.store.decide.clusters import cluster_claims

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode


def decide_group(
    claims: Sequence[Claim],
    items: Sequence[Item],
    former_sources: Mapping[int, frozenset[str]],
    rules: Rules,
) -> tuple[list[ItemDecision], list[Item]]:
    """Decide what the live records of one patient amount to.

    Args:
        claims: All live records of the patient, from all sources.
        items: All items of the patient, cancelled ones included.
        former_sources: Item id -> sources that claimed the item and have withdrawn.
        rules: Priorities and the matching rule.

    Returns:
        A decision per living item, and the items that no record claims any more and no scanner has touched.
    """
    if len(claims) == 1 and not items:
        # The ordinary case: a patient whom nobody has spoken of yet.
        return [_decide_item(list(claims), None, set())], []
    ranked = sorted(claims, key=lambda claim: rules.rank(claim.data_source, claim.record_key))
    clusters = cluster_claims(ranked, items, former_sources, rules)
    chosen = _choose_items(clusters, items, rules)
    decisions = []
    kept = set()
    taken = {item.values[name] for item in items for name in (STUDY_UID, "generated_study_uid")}
    for members, item in zip(clusters, chosen, strict=True):
        former = former_sources.get(item.id, frozenset()) if item else frozenset()
        if item and not item.touched and _abandoned(members, former, rules):
            continue
        if item:
            kept.add(item.id)
        decisions.append(_decide_item(members, item, taken))
    cancelled = [
        item for item in items if item.id not in kept and not item.touched and item.values[STATUS] == SCHEDULED
    ]
    return decisions, cancelled


def _abandoned(members: Iterable[Claim], former: frozenset[str], rules: Rules) -> bool:
    """Whether only sources without configuration still claim what a configured source has withdrawn."""
    if any(claim.data_source in rules.ranks for claim in members):
        return False
    return any(source in rules.ranks for source in former)


def _choose_items(clusters: Sequence[list[Claim]], items: Sequence[Item], rules: Rules) -> list[Item | None]:
    """Give each cluster the item that its best record had, one in use before a cancelled one.

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
            chosen[number] = by_uid.pop(uid_begun_by(members[0]), None)
    return chosen


def _decide_item(members: list[Claim], item: Item | None, taken: set[str | int | None]) -> ItemDecision:
    if item and item.touched:
        return ItemDecision(item=item, claims=tuple(members), values={}, conflicts=_vain_wishes(members, item))
    owner = members[0]
    merged = dict(owner.fields)
    conflicts = _merge_fields(merged, members) if len(members) > 1 else ()
    merged = with_fallbacks(merged)
    values: dict[str, str | None] = {STATUS: SCHEDULED, **merged, "data_source": owner.data_source}
    values |= _study_uids(members, merged.get(STUDY_UID), item, taken)
    return ItemDecision(item=item, claims=tuple(members), values=values, conflicts=conflicts)


def _merge_fields(merged: dict[str, str], members: list[Claim]) -> tuple[Conflict, ...]:
    """Fill `merged` per field from the first record that has a value; tell where a later one differs."""
    conflicts = []
    giver = dict.fromkeys(merged, members[0].data_source)
    for claim in members[1:]:
        for name, value in claim.fields.items():
            if name == RECORD_ID_FIELD:
                continue
            if name == ATTRIBUTES_FIELD and name in merged:
                merged[name], lost = _merge_attributes(merged[name], value)
                if lost:
                    conflicts.append(Conflict(name, giver[name], claim.data_source, lost))
            elif name not in merged:
                merged[name] = value
                giver[name] = claim.data_source
            elif merged[name] != value:
                conflicts.append(Conflict(name, giver[name], claim.data_source, value))
    return tuple(sorted(conflicts))


def _merge_attributes(first: str, second: str) -> tuple[str, str]:
    """Join two records' `dicom_attributes` per attribute; the first record wins.

    Returns:
        The joined attributes, and those of the second record that lost ("" if none did).
    """
    stronger, weaker = json.loads(first), json.loads(second)
    lost = {path: values for path, values in weaker.items() if stronger.get(path, values) != values}
    return _encode({**weaker, **stronger}), _encode(lost) if lost else ""


def _vain_wishes(members: list[Claim], item: Item) -> tuple[Conflict, ...]:
    """What the sources say otherwise about an item that is the scanner's."""
    return tuple(
        sorted(
            Conflict(name, SCANNER, claim.data_source, value)
            for claim in members
            for name, value in claim.fields.items()
            if name != RECORD_ID_FIELD and item.values.get(name) != value
        )
    )


def _study_uids(
    members: list[Claim], supplied: str | None, item: Item | None, taken: set[str | int | None]
) -> dict[str, str | None]:
    """A UID that a source supplies replaces a generated one of a scheduled item; nothing replaces a supplied one."""
    current = item.values[STUDY_UID] if item else None
    if item is None or not current:
        generated = uid_begun_by(members[0])
        repetition = 0
        while generated in taken:
            repetition += 1
            generated = uid_begun_by(members[0], repetition)
        taken.add(generated)
        return {STUDY_UID: supplied or generated, "generated_study_uid": generated}
    generated_uid = item.values["generated_study_uid"]
    replace = supplied and current == generated_uid and item.values[STATUS] in (SCHEDULED, CANCELED)
    return {
        STUDY_UID: supplied if replace else _text(current),
        "generated_study_uid": _text(generated_uid),
    }


def _text(value: str | int | None) -> str | None:
    return None if value is None else str(value)
