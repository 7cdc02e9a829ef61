"""Finds the clusters that somebody may take for one step and that are kept apart, to be told to people. Pure.

In: the clusters as they are decided. Out: the pairs whose numbers, or patient ID and day, agree, and why they are two.
Glossary: kept apart (docs/explanation/glossary.md).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from pylantir.store.decide.claims import STUDY_UID, Rules
from pylantir.store.decide.clusters.candidates import DATE, Candidate, compare, given_values, sources_of
from pylantir.store.decide.clusters.pairs import find_pairs, keys_of_one_day
from pylantir.store.decide.evidence import (
    ACCESSION,
    IDENTITY,
    ISSUER,
    STEP_ID,
    WEAK,
    are_two_patients,
    find_objections,
    objections_to_one_person,
    unsaid_fields,
)

T = TypeVar("T")
Cluster = Sequence[Candidate]
Contradiction = tuple[Candidate, Candidate, Collection[str]]


@dataclass(frozen=True, slots=True)
class Apart(Generic[T]):
    """Two steps that are kept apart although their numbers, or their patient ID and day, agree.

    Attributes:
        first: The one: the number of its cluster, or what is decided about it.
        second: The other one.
        fields: The fields that contradict.
        unsaid: Nothing contradicts: they may be one step, but one of the two does not give the fields.
    """

    first: T
    second: T
    fields: tuple[str, ...]
    unsaid: bool = False


def find_apart(
    clusters: Sequence[Cluster], rules: Rules, unclear: Iterable[tuple[Candidate, Candidate]] = ()
) -> list[Apart[int]]:
    """Return the pairs that are kept apart although their numbers, or patient ID and day, agree.

    Args:
        clusters: The clusters.
        rules: Priorities and the matching rule.
        unclear: Candidates that may be one step, if another candidate did not fit as well.
    """
    members = [one for own in clusters for one in own]
    home = {one.origin: number for number, own in enumerate(clusters) for one in own}
    found: dict[tuple[int, int], set[str]] = {}
    for a, b, fields in [*_find_contradictions(members, clusters, home, rules), *_find_strangers(members)]:
        first, second = sorted((home[a.origin], home[b.origin]))
        if not _name_two_issuers(clusters[first], clusters[second]):
            found.setdefault((first, second), set()).update(fields)
    contradictory = [Apart(first, second, tuple(sorted(fields))) for (first, second), fields in sorted(found.items())]
    doubtful: dict[tuple[int, int], set[str]] = {}
    for a, b in unclear:
        first, second = sorted((home[a.origin], home[b.origin]))
        if (first, second) not in found:
            doubtful.setdefault((first, second), set()).update(unsaid_fields(a.values, b.values))
    return contradictory + [
        Apart(*pair, tuple(sorted(fields)), unsaid=True) for pair, fields in sorted(doubtful.items())
    ]


def _find_contradictions(
    members: Sequence[Candidate], clusters: Sequence[Cluster], home: Mapping[int, int], rules: Rules
) -> Iterable[Contradiction]:
    """Yield pairs of candidates of two sources that agree in something, and the fields that contradict it."""
    for a, b in find_pairs(members, keys_of_one_day):
        ours, theirs = home[a.origin], home[b.origin]
        if ours != theirs and (a.claim or b.claim):
            fields = _told_objections(a, b, clusters[ours], clusters[theirs], rules)
            if fields:
                yield a, b, fields


def _told_objections(a: Candidate, b: Candidate, ours: Cluster, theirs: Cluster, rules: Rules) -> set[str]:
    """Return the fields that keep two candidates apart; empty if they are two steps with numbers of their own."""
    objections = set(find_objections(a.values, b.values, weak=True))
    people = objections & set(IDENTITY)
    if people:
        return people
    sign = compare(a, b, rules)
    numbers = objections & {STEP_ID, STUDY_UID, ACCESSION}
    if sign and sign.rung < WEAK and numbers == {STUDY_UID} and not sources_of(ours) & sources_of(theirs):
        # One accession number can have several studies, but then each source gives each of them.
        return numbers
    return objections if sign and not numbers else set()


def _find_strangers(members: Iterable[Candidate]) -> Iterable[Contradiction]:
    """Yield pairs of records of one source and day that are about two people, and the fields that say so.

    Each person is told with one other person of the source at most.
    """
    people: dict[tuple[str, object], dict[tuple[object, ...], Candidate]] = {}
    for one in members:
        if one.claim:
            identity = tuple(one.values.get(name) for name in (ISSUER, *IDENTITY))
            of_day = people.setdefault((one.claim.data_source, one.values[DATE]), {})
            of_day.setdefault(identity, one)
    for of_day in people.values():
        known: list[Candidate] = []
        for one in of_day.values():
            for other in known:
                fields = objections_to_one_person(other.values, one.values, weak=True)
                if fields and not are_two_patients(other.values, one.values):
                    yield other, one, fields
                    break
            known.append(one)


def _name_two_issuers(ours: Cluster, theirs: Cluster) -> bool:
    """Whether two clusters are of two patients, because they name different issuers."""
    our_issuers, their_issuers = given_values(ours, ISSUER), given_values(theirs, ISSUER)
    return bool(our_issuers and their_issuers) and not our_issuers & their_issuers
