"""Finds the pairs of candidates that are worth comparing: those of different sources that share a key. Pure.

Comparing every candidate with every other one would take too long where a patient ID is a default value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import combinations

from pylantir.store.decide.claims import STUDY_UID, Rules
from pylantir.store.decide.clusters.candidates import DATE, Candidate
from pylantir.store.decide.evidence import ACCESSION, Description

MAX_CANDIDATES = 200
"""If more records than this share a key, the key is a default value and matches nothing."""

Key = tuple[object, ...]


def find_pairs(
    candidates: Sequence[Candidate], keys_of: Callable[[Description], Iterable[Key]]
) -> list[tuple[Candidate, Candidate]]:
    """Return each pair of candidates of different sources that share a key, once."""
    buckets: dict[Key, list[int]] = {}
    for place, one in enumerate(candidates):
        for key in keys_of(one.values):
            buckets.setdefault(key, []).append(place)
    pairs = {
        (a, b): None
        for bucket in buckets.values()
        if 1 < len(bucket) <= MAX_CANDIDATES
        for a, b in combinations(bucket, 2)
        if not candidates[a].sources & candidates[b].sources
    }
    return [(candidates[a], candidates[b]) for a, b in pairs]


def matching_keys(values: Description, rules: Rules) -> Iterable[Key]:
    """Return what two candidates must share to be one step: a number, or all fields of the matching rule."""
    yield from _numbers(values)
    # A missing modality agrees with any modality.
    weak = tuple(values.get(name) for name in rules.match_on if name != "modality")
    if all(weak):
        yield weak


def keys_of_one_day(values: Description) -> Iterable[Key]:
    """Return what two candidates share that somebody may take for one step: a number, or the day."""
    yield from _numbers(values)
    yield (DATE, values.get(DATE))


def _numbers(values: Description) -> Iterable[Key]:
    for name in (STUDY_UID, ACCESSION):
        if values.get(name):
            yield (name, values[name])
