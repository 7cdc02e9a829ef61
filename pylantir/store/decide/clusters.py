"""Finds out which records of one patient describe the same scheduled procedure step. Pure.

In: the patient's live records and the items that a scanner has touched. Out: groups of records, one per step, and the
pairs of groups that are kept apart although their numbers agree.
Glossary: cluster, kept apart (docs/explanation/glossary.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from pylantir.entry import COMPLETED
from pylantir.store.decide.claims import STATUS, STUDY_UID, Claim, Item, Rules, uid_begun_by
from pylantir.store.decide.evidence import (
    ACCESSION,
    BY_ACCESSION,
    IDENTITY,
    ISSUER,
    STEP_ID,
    WEAK,
    Description,
    Sign,
    are_two_patients,
    find_objections,
    find_sign,
    is_another_patient,
    is_long_over,
    objections_to_one_person,
)

_DATE = "scheduled_start_date"
MAX_CANDIDATES = 200
"""If more records than this share a matching key, the key is a default value and matches nothing."""


@dataclass(frozen=True, slots=True)
class _Party:
    """A candidate for matching: a record, or a touched item in place of the records that it had."""

    cluster: int
    sources: frozenset[str]
    order: tuple[int, str, str]
    values: Description
    touched: bool
    claim: Claim | None


@dataclass(frozen=True, slots=True)
class Apart:
    """Two clusters whose numbers agree but that are different steps.

    Attributes:
        first: Number of the one cluster.
        second: Number of the other one.
        fields: The fields that contradict.
    """

    first: int
    second: int
    fields: tuple[str, ...]


def cluster_claims(
    ranked: Sequence[Claim],
    items: Sequence[Item],
    former_sources: Mapping[int, frozenset[str]],
    rules: Rules,
) -> tuple[list[list[Claim]], list[Apart]]:
    """Group records into steps, starting with the strongest evidence.

    A group never has two records of one source, nor two records that contradict each other.

    Returns:
        The clusters, those of touched items first, and the pairs that are kept apart although their numbers agree.
    """
    parties = _pin_to_items(ranked, items, former_sources)
    touched = len(parties)
    pinned = {party.claim.id for own in parties for party in own if party.claim}
    for claim in ranked:
        if claim.id not in pinned:
            order = rules.rank(claim.data_source, claim.record_key)
            sources = frozenset((claim.data_source,))
            parties.append([_Party(len(parties), sources, order, claim.fields, touched=False, claim=claim)])
    if len(parties) < 2:
        return [_claims_of(own, rules) for own in parties], []
    clusters = _Clusters(parties, rules, touched=touched)
    clusters.merge()
    return [_claims_of(own, rules) for own in clusters.parties.values()], clusters.find_apart()


def _claims_of(own: Iterable[_Party], rules: Rules) -> list[Claim]:
    claims = (party.claim for party in own if party.claim)
    return sorted(claims, key=lambda claim: rules.rank(claim.data_source, claim.record_key))


def _pin_to_items(
    ranked: Sequence[Claim], items: Sequence[Item], former_sources: Mapping[int, frozenset[str]]
) -> list[list[_Party]]:
    """Return for each touched item the item itself and the records that stay with it."""
    known = {item.id for item in items}
    parties: list[list[_Party]] = []
    for number, item in enumerate(item for item in items if item.touched):
        former = former_sources.get(item.id, frozenset())
        own = _pin([claim for claim in ranked if claim.item_id == item.id or claim.item_id not in known], item, former)
        sources = former | {claim.data_source for claim in own} | {str(item.values["data_source"])}
        # A touched item comes before all records, whichever it has now: deciding again must give the same result.
        order = (-1, "", str(item.id))
        # The present values of its records can only rule out another record: sources no longer change the item.
        parties.append(
            [
                _Party(number, sources, order, _given_values(item, own), touched=True, claim=None),
                *(_Party(number, sources, order, claim.fields, touched=True, claim=claim) for claim in own),
            ]
        )
    return parties


def _pin(candidates: Sequence[Claim], item: Item, former: frozenset[str]) -> list[Claim]:
    """Return the claims that stay with a touched item, one per source: those that it has and the one that began it."""
    own: dict[str, Claim] = {}
    for claim in candidates:
        if claim.item_id == item.id and not _is_reused(claim, item):
            own.setdefault(claim.data_source, claim)
    for claim in candidates:
        begun = uid_begun_by(claim) == item.values["generated_study_uid"]
        # After the exam, the same record with another day is a new step.
        begun &= item.values[STATUS] != COMPLETED or claim.fields[_DATE] == item.values[_DATE]
        begun = begun and not is_another_patient(item.values, claim.fields)
        if begun and claim.data_source not in own and claim.data_source not in former:
            own[claim.data_source] = claim
    return [claim for claim in candidates if own.get(claim.data_source) is claim]


def _is_reused(claim: Claim, item: Item) -> bool:
    """Whether a record without an ID of its own is a later exam that reuses the number of a completed one."""
    return not claim.record_key.startswith("id:") and is_long_over(item.values, claim.fields[_DATE])


def _given_values(item: Item, own: Sequence[Claim]) -> Description:
    """Return the values of an item that a source gave; values that Pylantir generated are no evidence."""
    values = dict(item.values)
    if values[STUDY_UID] == values["generated_study_uid"]:
        values[STUDY_UID] = None
    if values["scheduled_procedure_step_id"] == str(item.id):
        values["scheduled_procedure_step_id"] = None
    if own:
        # A source's correction of the patient ID does not change an item that a scanner has touched.
        values["patient_id"] = own[0].fields["patient_id"]
    return values


class _Clusters:
    """Joins clusters pair by pair: the strongest rule first and, under one rule, the closest start times first.

    The first `touched` clusters are those of touched items, which stay apart from one another.
    """

    def __init__(self, parties: Sequence[list[_Party]], rules: Rules, *, touched: int) -> None:
        self.parties = dict(enumerate(parties))
        self._everyone = [own[0] for own in parties]
        self._home = {number: number for number in self.parties}
        self._rules = rules
        self._touched = touched

    def merge(self) -> None:
        """Join the clusters that belong together: first the clear pairs, then those with a single candidate."""
        pairs = self._find_pairs()
        for pair in pairs:
            if not pair.sign.vague:
                self._join(pair)
        vague = [pair for pair in pairs if pair.sign.vague]
        while vague:
            vague = [pair for pair in vague if self._may_join(pair) and not self._speaks_for_a_touched_item(pair)]
            sole = next((pair for pair in vague if self._is_sole(pair, vague)), None)
            if sole is None:
                return
            self._join(sole)

    def find_apart(self) -> list[Apart]:
        """Return the pairs that are kept apart although their numbers, or patient ID and day, agree."""
        found: dict[tuple[int, int], set[str]] = {}
        members = [party for own in self.parties.values() for party in own]
        place = {number: position for position, number in enumerate(self.parties)}
        for a, b in _pairs_within(members, _keys_of_one_day, self._rules):
            first, second = sorted((place[self._home[a.cluster]], place[self._home[b.cluster]]))
            if first == second or not (a.claim or b.claim) or self._have_two_issuers(a, b):
                continue
            fields = self._told_objections(a, b)
            if fields:
                found.setdefault((first, second), set()).update(fields)
        for a, b, people in _find_strangers(members):
            if self._have_two_issuers(a, b):
                continue
            first, second = sorted((place[self._home[a.cluster]], place[self._home[b.cluster]]))
            found.setdefault((first, second), set()).update(people)
        return [Apart(first, second, tuple(sorted(fields))) for (first, second), fields in sorted(found.items())]

    def _have_two_issuers(self, a: _Party, b: _Party) -> bool:
        """Whether the clusters of two candidates are of two patients, because they name different issuers."""
        ours, theirs = (_given(self.parties[self._home[one.cluster]], (ISSUER,)) for one in (a, b))
        return bool(ours and theirs) and not ours & theirs

    def _told_objections(self, a: _Party, b: _Party) -> set[str]:
        """Return the fields that keep two candidates apart; empty if they are two steps with numbers of their own."""
        objections = set(find_objections(a.values, b.values, weak=True))
        people = objections & set(IDENTITY)
        if people:
            return people
        sign = find_sign(a.values, b.values, self._rules, self._max_minutes(a, b))
        numbers = objections & {STEP_ID, STUDY_UID, ACCESSION}
        if sign and sign.rung < WEAK and numbers == {STUDY_UID} and not self._sources_of(a) & self._sources_of(b):
            # One accession number can have several studies, but then each source gives each of them.
            return numbers
        return objections if sign and not numbers else set()

    def _sources_of(self, party: _Party) -> set[str]:
        """Return the sources that give a record of the candidate's cluster."""
        return set().union(*(one.sources for one in self.parties[self._home[party.cluster]]))

    def _find_pairs(self) -> list[_Pair]:
        pairs = []
        for a, b in _pairs_within(self._everyone, _matching_keys, self._rules):
            sign = find_sign(a.values, b.values, self._rules, self._max_minutes(a, b))
            if (
                sign
                and not self._reuses_number(a, b, sign)
                and not find_objections(a.values, b.values, weak=sign.rung == WEAK)
            ):
                first, second = sorted((a, b), key=lambda party: party.order)
                pairs.append(_Pair(sign, first.order, second.order, first.cluster, second.cluster))
        return sorted(pairs)

    @staticmethod
    def _reuses_number(a: _Party, b: _Party, sign: Sign) -> bool:
        """Whether the one is a booking with the accession number of an exam that was completed long before."""
        by_accession = sign.rung in BY_ACCESSION
        return by_accession and (
            is_long_over(a.values, str(b.values[_DATE])) or is_long_over(b.values, str(a.values[_DATE]))
        )

    def _max_minutes(self, a: _Party, b: _Party) -> float | None:
        return self._rules.max_minutes_touched if a.touched or b.touched else self._rules.max_minutes

    def _may_join(self, pair: _Pair) -> bool:
        left, right = sorted((self._home[pair.first], self._home[pair.second]))
        if left == right or right < self._touched:
            return False
        ours, theirs = self.parties[left], self.parties[right]
        if frozenset().union(*(one.sources for one in ours)) & frozenset().union(*(one.sources for one in theirs)):
            return False
        weak = pair.sign.rung == WEAK
        if any(find_objections(a.values, b.values, weak=weak) for a in ours for b in theirs):
            return False
        return not self._would_share_a_number([*ours, *theirs], (left, right))

    def _would_share_a_number(self, joined: Sequence[_Party], ends: tuple[int, int]) -> bool:
        """Whether a joined cluster would have a number of another issuer's patient: one record named no issuer."""
        issuers, numbers = _given(joined, (ISSUER,)), _given(joined, (STUDY_UID, ACCESSION))
        return bool(issuers and numbers) and any(
            not issuers & others and numbers & _given(own, (STUDY_UID, ACCESSION))
            for number, own in self.parties.items()
            if number not in ends and (others := _given(own, (ISSUER,)))
        )

    def _speaks_for_a_touched_item(self, pair: _Pair) -> bool:
        """Whether the evidence of a pair is a record that has just joined a touched item.

        Once the record belongs to the item, only the item's own values count as evidence.
        """
        return any(self._home[end] < self._touched and self._home[end] != end for end in (pair.first, pair.second))

    def _join(self, pair: _Pair) -> None:
        if not self._may_join(pair):
            return
        # If one of the two is a touched item's cluster, it has the lower number and stays.
        left, right = sorted((self._home[pair.first], self._home[pair.second]))
        self.parties[left] = [*self.parties[left], *self.parties.pop(right)]
        for number, target in self._home.items():
            if target == right:
                self._home[number] = left

    def _is_sole(self, pair: _Pair, others: Iterable[_Pair]) -> bool:
        """Whether neither side has another candidate that fits as well.

        The procedure, the station and the same time may decide between candidates.
        """
        ends = {self._home[pair.first], self._home[pair.second]}
        for other in others:
            ends_of_other = {self._home[other.first], self._home[other.second]}
            if len(ends & ends_of_other) == 1 and not _is_likelier(pair.sign, other.sign):
                return False
        return True


@dataclass(frozen=True, slots=True, order=True)
class _Pair:
    """Two candidates that may be one step, with the numbers of their clusters."""

    sign: Sign
    first_order: tuple[int, str, str]
    second_order: tuple[int, str, str]
    first: int
    second: int


def _given(parties: Iterable[_Party], names: Iterable[str]) -> set[tuple[str, object]]:
    return {(name, value) for party in parties for name in names if (value := party.values.get(name))}


def _find_strangers(members: Iterable[_Party]) -> Iterable[tuple[_Party, _Party, list[str]]]:
    """Yield pairs of records of one source and day that are about two people, and the fields that say so.

    Each person is told with one other person of the source at most.
    """
    people: dict[tuple[str, object], dict[tuple[object, ...], _Party]] = {}
    for party in members:
        if party.claim:
            identity = tuple(party.values.get(name) for name in (ISSUER, *IDENTITY))
            of_day = people.setdefault((party.claim.data_source, party.values[_DATE]), {})
            of_day.setdefault(identity, party)
    for of_day in people.values():
        known: list[_Party] = []
        for party in of_day.values():
            for other in known:
                fields = objections_to_one_person(other.values, party.values, weak=True)
                if fields and not are_two_patients(other.values, party.values):
                    yield other, party, fields
                    break
            known.append(party)


def _is_likelier(sign: Sign, other: Sign) -> bool:
    """Whether a vague sign is better in something and worse in nothing than another one."""
    ours, theirs = _likeness(sign), _likeness(other)
    return ours != theirs and all(mine <= its for mine, its in zip(ours, theirs, strict=True))


def _likeness(sign: Sign) -> tuple[bool, ...]:
    return sign.other_procedure, sign.procedure_unsaid, sign.other_station, sign.station_unsaid, sign.minutes > 0


def _pairs_within(
    parties: Sequence[_Party], keys: Callable[[Description, Rules], Iterable[tuple[object, ...]]], rules: Rules
) -> list[tuple[_Party, _Party]]:
    """Return each pair of candidates of different sources that share a key, once."""
    buckets: dict[tuple[object, ...], list[int]] = {}
    for place, party in enumerate(parties):
        for key in keys(party.values, rules):
            buckets.setdefault(key, []).append(place)
    pairs = {
        (a, b): None
        for bucket in buckets.values()
        if 1 < len(bucket) <= MAX_CANDIDATES
        for a, b in combinations(bucket, 2)
        if not parties[a].sources & parties[b].sources
    }
    return [(parties[a], parties[b]) for a, b in pairs]


def _matching_keys(values: Description, rules: Rules) -> Iterable[tuple[object, ...]]:
    yield from _strong_keys(values)
    # A missing modality agrees with any modality.
    weak = tuple(values.get(name) for name in rules.match_on if name != "modality")
    if all(weak):
        yield weak


def _keys_of_one_day(values: Description, rules: Rules) -> Iterable[tuple[object, ...]]:
    yield from _strong_keys(values)
    yield ("scheduled_start_date", values.get("scheduled_start_date"))


def _strong_keys(values: Description) -> Iterable[tuple[object, ...]]:
    for name in (STUDY_UID, ACCESSION):
        if values.get(name):
            yield (name, values[name])
