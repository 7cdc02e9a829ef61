"""Which records of one patient describe the same scheduled procedure step. Pure, like all of the decision.

In: the patient's live records and the items that a scanner has touched. Out: groups of records, a step each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from pylantir.entry import with_fallbacks
from pylantir.store.decide.claims import STUDY_UID, Claim, Item, Rules, uid_begun_by

MAX_CANDIDATES = 200
"""More records than this under one matching key are a default value, not one step: they are not matched by it."""


@dataclass(frozen=True, slots=True)
class _Party:
    """A record, or a touched item standing for the records that it had, as a candidate for matching."""

    cluster: int
    sources: frozenset[str]
    order: tuple[int, str, str]
    values: Mapping[str, str | int | None]


def cluster_claims(
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
        # Before all records, whatever it has by now: deciding again must come to the same.
        order = (-1, "", str(item.id))
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
        begun = uid_begun_by(claim) == item.values["generated_study_uid"]
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
