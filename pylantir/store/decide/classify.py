"""Compares the records of a batch with the stored ones and sorts them by what the writer must do. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from pylantir.ipc.records import Column, RecordColumns
from pylantir.store.decide.records import WITHDRAWN


def why_same_key(key: str) -> str:
    """Say why a record of a snapshot is refused whose key came earlier with other values."""
    if key.startswith("id:"):
        return "another record of the same fetch has this source_record_id and other values; give each its own"
    return "another record of the same fetch has this identity and other values; map source_record_id"


class Existing(NamedTuple):
    """The part of a stored record that the comparison needs."""

    id: int
    state: str
    patient_id: str
    contents: Column  # a value, or None, per field of the batch


@dataclass(frozen=True, slots=True)
class Classified:
    """The records of a batch, sorted.

    Attributes:
        repeats: Keys of exact repeats within the fetch, one per repeat.
        conflicts: Positions of records of a snapshot whose key came earlier with other values.
        unchanged: Key -> the stored record with the same values.
        fresh: Positions of records that are new or have changed.
    """

    repeats: list[str] = field(default_factory=list)
    conflicts: list[int] = field(default_factory=list)
    unchanged: dict[str, Existing] = field(default_factory=dict)
    fresh: list[int] = field(default_factory=list)


def classify(
    records: RecordColumns, existing: Mapping[str, Existing], seen: Callable[[int], bool], *, snapshot: bool
) -> Classified:
    """Compare records with what is stored.

    Args:
        records: Of one batch, in the source's order.
        existing: Key -> stored record, with its contents in the order of the batch's fields.
        seen: Tells by a stored record's id whether this cycle has shown it already.
        snapshot: The cycle shows everything that the source has, so each key may come only once. In other cycles the
            last record of a key counts.
    """
    if not existing and len(set(records.keys)) == len(records):
        return Classified(fresh=list(range(len(records))))
    result = Classified()
    shown: dict[str, Column] = {}
    for place, (key, *said) in enumerate(zip(records.keys, *records.values.values(), strict=True)):
        prior = existing.get(key)
        if prior is not None and key not in shown and seen(prior.id):
            shown[key] = prior.contents
        if shown.get(key) == said:
            result.repeats.append(key)
        elif key in shown and snapshot:
            result.conflicts.append(place)
        else:
            shown[key] = said
            if prior is not None and prior.contents == said and prior.state != WITHDRAWN:
                result.unchanged[key] = prior
            else:
                result.fresh.append(place)
    return result
