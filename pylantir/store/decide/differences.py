"""Lists the differences between sources that an operator should look at: the entries of `pylantir conflicts`. Pure.

Every decision about a patient computes them again, so an entry disappears with its difference. A new difference is
reported once in the log and once in the audit log.
Glossary: wish (docs/explanation/glossary.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from pylantir.store.decide.claims import SCANNER, Claim, ItemDecision
from pylantir.store.decide.evidence import is_correction
from pylantir.store.decide.reconcile import GroupDecision
from pylantir.store.decide.records import LIVE, Record

KEPT_APART = "kept_apart"
DIFFERS = "differs"
WISH = "wish"
HELD = "held"
_UNSAID = (None, "")
_DATE = "scheduled_start_date"
_MOVABLE = (_DATE, "scheduled_start_time", "modality")
"""If one source changes one of these, its record may leave the item of another source's record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One entry.

    Attributes:
        kind: `kept_apart`: two items whose numbers agree but that are different steps; `differs`: sources give
            different values for a field of one item; `wish`: a source's value for an item only the scanner changes;
            `held`: a newer version's rules would give the item another study UID, and do so a day later.
        items: The numbers of the items.
        sources: The sources that differ, the winning one first.
        records: The keys of their records.
        fields: Worklist field -> the winning value and the other one; between two items None and None, or None and ""
            where they may be one exam, but one of the two does not give the field.
        other_patient: The first item's patient ID, if it is not the second one's.
    """

    kind: str
    items: tuple[int, ...]
    sources: tuple[str, ...]
    records: tuple[str, ...]
    fields: Mapping[str, tuple[str | None, str | None]]
    other_patient: str | None = None

    @property
    def unsaid(self) -> bool:
        """Whether nothing contradicts that two items are one exam, but one of the two says too little."""
        return self.kind == KEPT_APART and _UNSAID in self.fields.values()

    @property
    def place(self) -> tuple[object, ...]:
        """Return the part of the entry that does not change while the difference lasts."""
        return self.kind, self.items, self.sources, self.records


def find_differences(decision: GroupDecision, ids: Sequence[int], stored: Iterable[Difference]) -> list[Difference]:
    """List the differences about one patient.

    Args:
        decision: The decision about the patient.
        ids: The number of each of its items, in their order.
        stored: The entries so far. If one of two joined records moved away, the entry stays until the other follows.

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
    apart: dict[tuple[int, int], _Apart] = {
        (number[id(one.first)], number[id(one.second)]): (
            one.first.claims, one.second.claims, dict.fromkeys(one.fields, _UNSAID if one.unsaid else (None, None))
        )
        for one in decision.apart
    }  # fmt: skip
    for a, b, changed in _left_behind(decision, number, stored):
        said = dict.fromkeys(changed, (None, None))
        apart.setdefault((number[id(a[0])], number[id(b[0])]), ((a[1],), (b[1],), said))
    for items, (ours, theirs, against) in apart.items():
        heads = [claims[0] for claims in (ours, theirs) if claims]
        found.append(
            Difference(
                kind=KEPT_APART, items=items, sources=tuple(one.data_source for one in heads),
                records=tuple(one.record_key for one in heads), fields=against,
            )
        )  # fmt: skip
    return found


def find_corrected(first: Record, second: Record) -> Difference | None:
    """Return the entry about two records that were one item until one source corrected the patient ID.

    Args:
        first: The record of the source with the higher priority.
        second: The other one.

    Returns:
        None if the difference is gone.
    """
    if first.item_id is None or second.item_id is None or first.patient_id == second.patient_id:
        return None
    if first.item_id == second.item_id:
        # The second one's source is not enabled, so it has no item of its own.
        return None
    if not (first.state == second.state == LIVE and is_correction(first.fields, second.fields)):
        return None
    return Difference(
        kind=KEPT_APART, items=(first.item_id, second.item_id), sources=(first.data_source, second.data_source),
        records=(first.record_key, second.record_key), fields={"patient_id": (None, None)},
        other_patient=first.patient_id,
    )  # fmt: skip


_Place = tuple[ItemDecision, Claim]
_Apart = tuple[Sequence[Claim], Sequence[Claim], Mapping[str, tuple[str | None, str | None]]]


def _left_behind(
    decision: GroupDecision, number: Mapping[int, int], stored: Iterable[Difference]
) -> list[tuple[_Place, _Place, tuple[str, ...]]]:
    """Return pairs of records that were one item until one of them moved, and the fields that differ."""
    were_one: dict[int, list[_Place]] = {}
    by_key: dict[tuple[str, str], _Place] = {}
    for item in decision.items:
        for claim in item.claims:
            by_key[claim.data_source, claim.record_key] = item, claim
            if claim.item_id is not None:
                were_one.setdefault(claim.item_id, []).append((item, claim))
    pairs = [pair for places in were_one.values() for pair in combinations(places, 2)]
    for one in stored:
        if one.kind == KEPT_APART and not one.unsaid and one.fields and set(one.fields) <= set(_MOVABLE):
            places = [by_key[key] for key in zip(one.sources, one.records, strict=True) if key in by_key]
            pairs += combinations(places, 2)
    found = []
    for a, b in pairs:
        changed = _find_changed(a, b)
        if changed:
            found.append((a, b, changed) if number[id(a[0])] <= number[id(b[0])] else (b, a, changed))
    return found


def _find_changed(a: _Place, b: _Place) -> tuple[str, ...]:
    """Return the fields in which two records differ that were one item; empty if there is nothing to tell."""
    ours, theirs = a[1].fields, b[1].fields
    # Midnight means that no source gave a time.
    said = [name for name in _MOVABLE if ours.get(name, "").strip("0") and theirs.get(name, "").strip("0")]
    changed = tuple(name for name in said if ours[name] != theirs[name])
    if a[0] is b[0] or a[1].data_source == b[1].data_source:
        return ()
    # On one day, either record may have found a nearer one of the other source.
    sources = [{claim.data_source for claim in item.claims} for item, _ in (a, b)]
    return changed if _DATE in changed or sources[0].isdisjoint(sources[1]) else ()
