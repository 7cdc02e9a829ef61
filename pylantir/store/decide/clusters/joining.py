"""Joins the records of one patient that describe the same scheduled procedure step into clusters. Pure.

In: the patient's live records and the items that a scanner has touched. Out: groups of records, one per step, and the
pairs of groups that are kept apart although their numbers agree.
Glossary: cluster (docs/explanation/glossary.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from pylantir.store.decide.claims import STUDY_UID, Claim, Item, Rules
from pylantir.store.decide.clusters.apart import Apart, find_apart
from pylantir.store.decide.clusters.candidates import (
    DATE,
    Candidate,
    compare,
    gather_candidates,
    given_values,
    sources_of,
)
from pylantir.store.decide.clusters.pairs import find_pairs, matching_keys
from pylantir.store.decide.evidence import ACCESSION, BY_ACCESSION, ISSUER, WEAK, Sign, find_objections, is_long_over


def cluster_claims(
    ranked: Sequence[Claim],
    items: Sequence[Item],
    former_sources: Mapping[int, frozenset[str]],
    rules: Rules,
) -> tuple[list[list[Claim]], list[Apart[int]]]:
    """Group records into steps, starting with the strongest evidence.

    A group never has two records of one source, nor two records that contradict each other.

    Args:
        ranked: The patient's live records, in the order of priority.
        items: The patient's items.
        former_sources: Item id -> sources that claimed the item and have withdrawn.
        rules: Priorities and the matching rule.

    Returns:
        The clusters, those of touched items first, and the pairs that are kept apart although their numbers agree.
    """
    groups = gather_candidates(ranked, items, former_sources, rules)
    if len(groups) < 2:
        return [_claims_of(group, rules) for group in groups], []
    clusters = _Clusters(groups, rules)
    unclear = clusters.join_all()
    joined = list(clusters.members.values())
    return [_claims_of(own, rules) for own in joined], find_apart(joined, rules, unclear)


def _claims_of(candidates: Iterable[Candidate], rules: Rules) -> list[Claim]:
    claims = (one.claim for one in candidates if one.claim)
    return sorted(claims, key=lambda claim: rules.rank(claim.data_source, claim.record_key))


@dataclass(frozen=True, slots=True, order=True)
class _Pair:
    """Two candidates that may be one step, with the numbers of the clusters that they begin in."""

    sign: Sign
    first_order: tuple[int, str, str]
    second_order: tuple[int, str, str]
    first: int
    second: int


class _Clusters:
    """Joins clusters pair by pair: the strongest rule first and, under one rule, the closest start times first.

    Args:
        groups: The candidates that belong together from the beginning, those of touched items first.
        rules: Priorities and the matching rule.

    Attributes:
        members: Number of a cluster -> its candidates. Two clusters of touched items are never joined.
    """

    def __init__(self, groups: Sequence[list[Candidate]], rules: Rules) -> None:
        self.members = dict(enumerate(groups))
        self._first_of_each = [group[0] for group in groups]
        self._touched = sum(one.touched for one in self._first_of_each)
        self._home = {number: number for number in self.members}
        self._rules = rules

    def join_all(self) -> list[tuple[Candidate, Candidate]]:
        """Join the clusters that belong together: first the clear pairs, then those with a single candidate.

        Returns:
            The pairs that stay apart because another candidate fits as well.
        """
        pairs = self._find_pairs()
        for pair in pairs:
            if not pair.sign.vague and self._may_join(pair):
                self._join(pair)
        vague = [pair for pair in pairs if pair.sign.vague]
        while vague:
            vague = [pair for pair in vague if self._may_join(pair) and not self._speaks_for_a_touched_item(pair)]
            sole = next((pair for pair in vague if self._is_sole(pair, vague)), None)
            if sole is None:
                break
            self._join(sole)
        return [(self._first_of_each[pair.first], self._first_of_each[pair.second]) for pair in vague]

    def _find_pairs(self) -> list[_Pair]:
        pairs = []
        for a, b in find_pairs(self._first_of_each, lambda values: matching_keys(values, self._rules)):
            sign = compare(a, b, self._rules)
            if (
                sign
                and not _reuses_number(a, b, sign)
                and not find_objections(a.values, b.values, weak=sign.rung == WEAK)
            ):
                first, second = sorted((a, b), key=lambda one: one.order)
                pairs.append(_Pair(sign, first.order, second.order, first.origin, second.origin))
        return sorted(self._with_doubtful_issuers(pairs))

    def _with_doubtful_issuers(self, pairs: Sequence[_Pair]) -> list[_Pair]:
        """Return the pairs; where a candidate without an issuer may be the patient of either of two, they are vague."""
        issuers = [one.values.get(ISSUER) for one in self._first_of_each]
        if len({*issuers} - {None}) < 2:
            return [*pairs]
        met: dict[int, set[object]] = {}
        for pair in pairs:
            for one, other in ((pair.first, pair.second), (pair.second, pair.first)):
                if issuers[other] and not issuers[one]:
                    met.setdefault(one, set()).add(issuers[other])
        doubtful = {number for number, names in met.items() if len(names) > 1}
        return [
            replace(pair, sign=replace(pair.sign, vague=True))
            if pair.sign.rung == WEAK and not doubtful.isdisjoint((pair.first, pair.second))
            else pair
            for pair in pairs
        ]

    def _may_join(self, pair: _Pair) -> bool:
        left, right = sorted((self._home[pair.first], self._home[pair.second]))
        if left == right or right < self._touched:
            return False
        ours, theirs = self.members[left], self.members[right]
        if sources_of(ours) & sources_of(theirs):
            return False
        weak = pair.sign.rung == WEAK
        if any(find_objections(a.values, b.values, weak=weak) for a in ours for b in theirs):
            return False
        return not self._would_share_a_number([*ours, *theirs], (left, right))

    def _would_share_a_number(self, joined: Sequence[Candidate], ends: tuple[int, int]) -> bool:
        """Whether a joined cluster would have a number of another issuer's patient: one record named no issuer."""
        issuers, numbers = given_values(joined, ISSUER), given_values(joined, STUDY_UID, ACCESSION)
        return bool(issuers and numbers) and any(
            not issuers & others and numbers & given_values(own, STUDY_UID, ACCESSION)
            for number, own in self.members.items()
            if number not in ends and (others := given_values(own, ISSUER))
        )

    def _speaks_for_a_touched_item(self, pair: _Pair) -> bool:
        """Whether the evidence of a pair is a record that has just joined a touched item.

        Once the record belongs to the item, only the item's own values count as evidence.
        """
        return any(self._home[end] < self._touched and self._home[end] != end for end in (pair.first, pair.second))

    def _join(self, pair: _Pair) -> None:
        # If one of the two is a touched item's cluster, it has the lower number and stays.
        left, right = sorted((self._home[pair.first], self._home[pair.second]))
        self.members[left] = [*self.members[left], *self.members.pop(right)]
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


def _reuses_number(a: Candidate, b: Candidate, sign: Sign) -> bool:
    """Whether the one is a booking with the accession number of an exam that was completed long before."""
    return sign.rung in BY_ACCESSION and (
        is_long_over(a.values, str(b.values[DATE])) or is_long_over(b.values, str(a.values[DATE]))
    )


def _is_likelier(sign: Sign, other: Sign) -> bool:
    """Whether a vague sign is better in something and worse in nothing than another one."""
    ours, theirs = _likeness(sign), _likeness(other)
    return ours != theirs and all(mine <= its for mine, its in zip(ours, theirs, strict=True))


def _likeness(sign: Sign) -> tuple[bool, ...]:
    return sign.other_procedure, sign.procedure_unsaid, sign.other_station, sign.station_unsaid, sign.minutes > 0
