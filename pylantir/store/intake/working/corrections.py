"""Finds the exams whose patient ID only one of two sources has corrected. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from pylantir.store.decide.claims import Rules
from pylantir.store.decide.differences import Difference, find_corrected
from pylantir.store.decide.identifiers import is_idle
from pylantir.store.decide.records import Record
from pylantir.store.intake.working.differences import StoredDifference
from pylantir.store.intake.working.memory import Memory


def find_corrections(
    corrected: Iterable[tuple[Record, Record]], stored: Collection[StoredDifference], memory: Memory, rules: Rules
) -> Mapping[str, Sequence[Difference]]:
    """Find the entries that are to be told, and the patients whose stored entries are to be told no more.

    Args:
        corrected: The pairs of this transaction: whose patient ID stays, and whose was corrected.
        stored: The entries of earlier transactions.
        memory: All patients of both.
        rules: The order of priority.

    Returns:
        Patient ID -> its entries, none if the other source has followed.
    """
    pairs = [list(pair) for pair in corrected]
    if not (pairs or stored):
        return {}
    by_key = {(one.data_source, one.record_key): one for one in memory.records.values()}
    for told in stored:
        keys = zip(told.entry.sources, told.entry.records, strict=True)
        pairs.append([by_key[key] for key in keys if key in by_key])
    items = memory.items()
    found = {told.patient_id: dict[object, Difference]() for told in stored}
    for pair in pairs:
        pair.sort(key=lambda one: rules.rank(one.data_source, one.record_key))
        if len(pair) == 2 and not any(is_idle(one, items) for one in pair) and (entry := find_corrected(*pair)):
            found.setdefault(pair[1].patient_id, {})[entry.place] = entry
    return {patient: [*entries.values()] for patient, entries in found.items()}
