"""What the sources do not agree about, for an operator to look at: the entries of `pylantir conflicts`. Pure.

They are computed anew with every decision about a patient, so an entry goes when its difference is gone. What is new is
told once, in the log and in the audit log.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from pylantir.store.decide.claims import SCANNER, Claim, ItemDecision
from pylantir.store.decide.reconcile import GroupDecision

KEPT_APART = "kept_apart"
DIFFERS = "differs"
WISH = "wish"
_DATE = "scheduled_start_date"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One entry.

    Attributes:
        kind: `kept_apart`: two items that agree in their numbers and are not the same step; `differs`: sources that
            disagree about a field of one item; `wish`: what a source says about an item that is the scanner's.
        items: The numbers of the items.
        sources: Who disagrees, the one that counts first.
        records: The keys of their records.
        fields: Worklist field -> the value that counts, and the one that does not (None both between two items).
    """

    kind: str
    items: tuple[int, ...]
    sources: tuple[str, ...]
    records: tuple[str, ...]
    fields: Mapping[str, tuple[str | None, str | None]]

    @property
    def place(self) -> tuple[object, ...]:
        """What stays the same while the difference lasts."""
        return self.kind, self.items, self.sources, self.records


def find_differences(decision: GroupDecision, ids: Sequence[int], stored: Iterable[Difference]) -> list[Difference]:
    """List what there is to tell about one patient.

    Args:
        decision: What was decided.
        ids: The number of each of its items, in their order.
        stored: What was told before; a record that another one has left is told until it follows.

    Returns:
        The entries, each with another `place`.
    """
    number = {id(one): item_id for one, item_id in zip(decision.items, ids, strict=True)}
    found: list[Difference] = []
    for item, item_id in zip(decision.items, ids, strict=True):
        keys = {claim.data_source: claim.record_key for claim in item.claims}
        values = item.item.values if item.item and item.item.touched else item.values
        disagreeing: dict[tuple[str, str], dict[str, tuple[str | None, str | None]]] = {}
        for conflict in item.conflicts:
            present = values.get(conflict.field)
            pair = None if present is None else str(present), conflict.lost_value
            disagreeing.setdefault((conflict.winner, conflict.loser), {})[conflict.field] = pair
        for (winner, loser), fields in disagreeing.items():
            kind, sources = (WISH, (loser,)) if winner == SCANNER else (DIFFERS, (winner, loser))
            records = tuple(keys[source] for source in sources)
            found.append(Difference(kind=kind, items=(item_id,), sources=sources, records=records, fields=fields))
    apart = {
        (number[id(one.first)], number[id(one.second)]): (one.first.claims, one.second.claims, one.fields)
        for one in decision.apart
    }
    for a, b in _left_behind(decision, number, stored):
        apart.setdefault((number[id(a[0])], number[id(b[0])]), ((a[1],), (b[1],), (_DATE,)))
    for items, (ours, theirs, against) in apart.items():
        heads = [claims[0] for claims in (ours, theirs) if claims]
        found.append(
            Difference(
                kind=KEPT_APART, items=items, sources=tuple(one.data_source for one in heads),
                records=tuple(one.record_key for one in heads), fields=dict.fromkeys(against, (None, None)),
            )
        )  # fmt: skip
    return found


_Place = tuple[ItemDecision, Claim]


def _left_behind(
    decision: GroupDecision, number: Mapping[int, int], stored: Iterable[Difference]
) -> list[tuple[_Place, _Place]]:
    """Pairs of records that were one item until one of them moved to another day."""
    were_one: dict[int, list[_Place]] = {}
    by_key: dict[tuple[str, str], _Place] = {}
    for item in decision.items:
        for claim in item.claims:
            by_key[claim.data_source, claim.record_key] = item, claim
            if claim.item_id is not None:
                were_one.setdefault(claim.item_id, []).append((item, claim))
    pairs = [pair for places in were_one.values() for pair in combinations(places, 2)]
    for one in stored:
        if one.kind == KEPT_APART and set(one.fields) == {_DATE}:
            places = [by_key[key] for key in zip(one.sources, one.records, strict=True) if key in by_key]
            pairs += combinations(places, 2)
    return [
        (a, b) if number[id(a[0])] <= number[id(b[0])] else (b, a)
        for a, b in pairs
        if a[0] is not b[0] and a[1].data_source != b[1].data_source and a[1].fields[_DATE] != b[1].fields[_DATE]
    ]
