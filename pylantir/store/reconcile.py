"""What the records of one patient amount to: the pure decision at the heart of the worklist.

In: all live records of one patient (claims) and the patient's items. Out: which records describe the same scheduled
procedure step, with which values, on which item. No database, no clock, no chance: the order of arrival cannot matter.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from pylantir.entry import CANCELED, RECORD_ID_FIELD, SCHEDULED, with_fallbacks

UID_NAMESPACE = uuid.UUID("5c2b3a52-6c1e-5d0f-9a57-0f2c0d9f6b11")
_SEPARATOR = "\x1f"  # no value of DICOM has it
STATUS = "performed_procedure_step_status"
STUDY_UID = "study_instance_uid"
SCANNER = "scanner"
"""Who wins every difference about an item that a scanner has touched."""
MAX_CANDIDATES = 200
"""More records than this under one matching key are a default value, not one step: they are not matched by it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the configuration says about merging.

    Attributes:
        ranks: Configured source -> its place in the order of priority, 0 first.
        match_on: Fields that make two sources' records the same step when no UID or accession number does.
        max_minutes: Longest difference of start times under that rule; None for any.
    """

    ranks: Mapping[str, int] = field(default_factory=dict)
    match_on: tuple[str, ...] = ("patient_id", "scheduled_start_date", "modality")
    max_minutes: float | None = None

    def rank(self, data_source: str, record_key: str) -> tuple[int, str, str]:
        """The place of a record in the order of priority; sources that are not configured come last, by name."""
        return (self.ranks.get(data_source, len(self.ranks)), data_source, record_key)


@dataclass(frozen=True, slots=True)
class Claim:
    """One source's live record."""

    id: int
    data_source: str
    record_key: str
    fields: Mapping[str, str]
    item_id: int | None


@dataclass(frozen=True, slots=True)
class Item:
    """A row of `worklist_items`: column -> value."""

    id: int
    values: Mapping[str, str | int | None]

    @property
    def touched(self) -> bool:
        """Whether a scanner has reported on it, which freezes it."""
        return bool(self.values["scanner_touched"])


@dataclass(frozen=True, slots=True, order=True)
class Conflict:
    """Two sources that disagree about a field of one step."""

    field: str
    winner: str
    loser: str
    lost_value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemDecision:
    """What one item shall be.

    Attributes:
        item: The existing item, or None for a new one.
        claims: The records that describe it, the owner's first.
        values: The columns that have a value; empty for an item that a scanner has touched.
        conflicts: What was said in vain.
    """

    item: Item | None
    claims: tuple[Claim, ...]
    values: Mapping[str, str | None]
    conflicts: tuple[Conflict, ...] = ()


@dataclass(frozen=True, slots=True)
class _Party:
    """A record, or a touched item standing for the records that it had, as a candidate for matching."""

    cluster: int
    sources: frozenset[str]
    order: tuple[int, str, str]
    values: Mapping[str, str | int | None]


def make_study_uid(data_source: str, record_key: str, patient_id: str, repetition: int = 0) -> str:
    """Derive the study instance UID of an item from its first record, always the same one.

    `repetition` tells apart the items that one record has begun, where another record took the earlier one along.

    Source: DICOM PS3.5 B.2 (UUID derived UIDs, root 2.25).
    """
    parts = [data_source, record_key, patient_id, *([str(repetition)] if repetition else [])]
    return f"2.25.{uuid.uuid5(UID_NAMESPACE, _SEPARATOR.join(parts)).int}"


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
    clusters = _cluster(ranked, items, former_sources, rules)
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


def _cluster(
    ranked: Sequence[Claim],
    items: Sequence[Item],
    former_sources: Mapping[int, frozenset[str]],
    rules: Rules,
) -> list[list[Claim]]:
    """Group records into steps: never two of one source, never against a contradiction, strongest evidence first."""
    members: dict[int, list[Claim]] = {}
    parties: dict[int, list[_Party]] = {}
    pinned: set[int] = set()
    known = {item.id for item in items}
    for number, item in enumerate(item for item in items if item.touched):
        former = former_sources.get(item.id, frozenset())
        own = _pin([claim for claim in ranked if claim.item_id == item.id or claim.item_id not in known], item, former)
        pinned.update(claim.id for claim in own)
        members[number] = own
        sources = former | {claim.data_source for claim in own} | {str(item.values["data_source"])}
        order = rules.rank(own[0].data_source, own[0].record_key) if own else (len(rules.ranks) + 1, "", str(item.id))
        # What its records say now can speak against another record, but not for it: the item itself is frozen.
        parties[number] = [
            _Party(number, sources, order, _given_values(item)),
            *(_Party(number, sources, order, with_fallbacks(claim.fields)) for claim in own),
        ]
    touched = len(members)
    for claim in ranked:
        if claim.id in pinned:
            continue
        number = len(members)
        members[number] = [claim]
        order = rules.rank(claim.data_source, claim.record_key)
        parties[number] = [_Party(number, frozenset((claim.data_source,)), order, with_fallbacks(claim.fields))]
    if len(members) > 1:
        _merge_clusters(members, parties, rules, touched=touched)
    return list(members.values())


def _pin(candidates: Sequence[Claim], item: Item, former: frozenset[str]) -> list[Claim]:
    """The claims that stay with a touched item: what it had, and the record that it began with; one per source."""
    own: dict[str, Claim] = {}
    for claim in candidates:
        if claim.item_id == item.id:
            own.setdefault(claim.data_source, claim)
    for claim in candidates:
        begun = _uid_for(claim) == item.values["generated_study_uid"]
        if begun and claim.data_source not in own and claim.data_source not in former:
            own[claim.data_source] = claim
    return [claim for claim in candidates if own.get(claim.data_source) is claim]


def _given_values(item: Item) -> dict[str, str | int | None]:
    """The values of an item that a source gave: what Pylantir made up is no evidence for or against anything."""
    values = dict(item.values)
    if values[STUDY_UID] == values["generated_study_uid"]:
        values[STUDY_UID] = None
    if values["scheduled_procedure_step_id"] == str(item.id):
        values["scheduled_procedure_step_id"] = None
    return values


def _merge_clusters(
    members: dict[int, list[Claim]], parties: dict[int, list[_Party]], rules: Rules, *, touched: int
) -> None:
    """Join clusters pair by pair, in the order of the ladder and then of the start times' distance.

    The first `touched` clusters are those of touched items, which stay apart from one another.
    """
    everyone = [own[0] for own in parties.values()]
    home = {number: number for number in members}
    for _, first, second in _candidate_pairs(everyone, rules):
        left, right = sorted((home[first.cluster], home[second.cluster]))
        if left == right or right < touched:
            continue
        left_sources = frozenset().union(*(party.sources for party in parties[left]))
        right_sources = frozenset().union(*(party.sources for party in parties[right]))
        if left_sources & right_sources:
            continue
        if any(_evidence(a, b, rules) is None for a in parties[left] for b in parties[right]):
            continue
        # The touched item's cluster, if any, has the lower number and stays.
        members[left].extend(members.pop(right))
        members[left].sort(key=lambda claim: rules.rank(claim.data_source, claim.record_key))
        parties[left].extend(parties.pop(right))
        for number, target in home.items():
            if target == right:
                home[number] = left


def _candidate_pairs(everyone: Sequence[_Party], rules: Rules) -> list[tuple[tuple[object, ...], _Party, _Party]]:
    buckets: dict[tuple[object, ...], list[_Party]] = {}
    for party in everyone:
        for key in _matching_keys(party.values, rules):
            buckets.setdefault(key, []).append(party)
    pairs = {}
    for bucket in buckets.values():
        if not 1 < len(bucket) <= MAX_CANDIDATES:
            continue
        for a, b in combinations(bucket, 2):
            if a.sources & b.sources:
                continue
            evidence = _evidence(a, b, rules)
            if evidence:
                first, second = sorted((a, b), key=lambda party: party.order)
                pairs[first.cluster, second.cluster] = ((*evidence, first.order, second.order), first, second)
    return sorted(pairs.values(), key=lambda pair: pair[0])


def _matching_keys(values: Mapping[str, str | int | None], rules: Rules) -> Iterable[tuple[object, ...]]:
    if values.get(STUDY_UID):
        yield (STUDY_UID, values[STUDY_UID])
    if values.get("accession_number"):
        yield ("accession_number", values["accession_number"])
    weak = tuple(values.get(name) for name in rules.match_on)
    if all(weak):
        yield weak


def _evidence(a: _Party, b: _Party, rules: Rules) -> tuple[int, float] | tuple[()] | None:
    """How strongly two parties are the same step: (step of the ladder, minutes apart), () for no sign, None against.

    A rule never applies where a stronger key, or the birth date, is present on both sides and differs.
    """

    def differ(name: str) -> bool:
        return bool(a.values.get(name) and b.values.get(name) and a.values[name] != b.values[name])

    def agree(name: str) -> bool:
        return bool(a.values.get(name) and a.values.get(name) == b.values.get(name))

    if differ("patient_birth_date") or differ("scheduled_procedure_step_id"):
        return None
    apart = abs(_minutes(a.values) - _minutes(b.values))
    same_step = agree("scheduled_procedure_step_id")
    if agree(STUDY_UID):
        return (0 if same_step else 1, apart)
    if differ(STUDY_UID):
        return None
    if agree("accession_number"):
        return (2 if same_step else 3, apart)
    if differ("accession_number"):
        return None
    near = rules.max_minutes is None or apart <= rules.max_minutes
    return (4, apart) if near and all(agree(name) for name in rules.match_on) else ()


def _minutes(values: Mapping[str, str | int | None]) -> float:
    time = str(values.get("scheduled_start_time") or "000000")
    return int(time[:2]) * 60 + int(time[2:4]) + int(time[4:6]) / 60


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
            chosen[number] = by_uid.pop(_uid_for(members[0]), None)
    return chosen


def _uid_for(claim: Claim, repetition: int = 0) -> str:
    return make_study_uid(claim.data_source, claim.record_key, claim.fields["patient_id"], repetition)


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
            if name not in merged:
                merged[name] = value
                giver[name] = claim.data_source
            elif merged[name] != value:
                conflicts.append(Conflict(name, giver[name], claim.data_source, value))
    return tuple(sorted(conflicts))


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
        generated = _uid_for(members[0])
        repetition = 0
        while generated in taken:
            repetition += 1
            generated = _uid_for(members[0], repetition)
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
