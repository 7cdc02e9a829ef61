"""An accession number or a study UID belongs to one patient: who keeps it, and who is refused.

The claim of the source with the highest priority stays; one that a scanner has started stays in any case. It is a
function of all records that claim the value, so it does not matter who came first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pylantir.store.decide.records import IDENTIFIERS, LIVE, REFUSED, Record
from pylantir.store.intake.records import find_best_holders, find_holding_patients, find_started_holders

if TYPE_CHECKING:
    from pylantir.store.intake.working_set import WorkingSet

Identifier = tuple[str, str]


def settle_identifiers(working: WorkingSet, identifiers: set[Identifier]) -> list[Record]:
    """Find the owner of each identifier; refuse its other claimants, and let those in who were refused for it.

    Args:
        working: The transaction's working set; patients are loaded into it as needed.
        identifiers: (column, value) pairs that a changed record has or had.

    Returns:
        The records that changed their state.
    """
    owners: dict[Identifier, str] = {}
    claimants: dict[Identifier, list[Record]] = {}
    waiting = set(identifiers)
    while waiting:
        started = _load_claimants(working, waiting)
        claimants = _index_claimants(working)
        for pair in waiting:
            holders = claimants.get(pair, [])
            best = min(holders, key=lambda one: working.rules.rank(one.data_source, one.record_key), default=None)
            owners[pair] = started.get(pair) or (best.patient_id if best else "")
        # Whoever may change state now must be judged by its other identifier, too.
        judged = [record for pair in waiting for record in claimants.get(pair, [])]
        waiting = {pair for record in judged for pair in record.identifiers()} - owners.keys()
    moved = []
    for record in {record.id: record for pair in owners for record in claimants.get(pair, [])}.values():
        refused = any(owners.get(pair, record.patient_id) != record.patient_id for pair in record.identifiers())
        state = REFUSED if refused else LIVE
        if record.state != state:
            working.enter(record, state)
            moved.append(record)
    return moved


def _load_claimants(working: WorkingSet, identifiers: set[Identifier]) -> dict[Identifier, str]:
    """Bring everybody who may win or lose an identifier into memory; tell whom a scanner has decided for.

    Records that stay refused whoever wins are left alone: a default value in a column must not load the whole table.
    """
    started = {}
    for column in IDENTIFIERS:
        values = [value for name, value in identifiers if name == column]
        if not values:
            continue
        for value, patient in find_started_holders(working.connection, column, values).items():
            started[column, value] = patient
        best = find_best_holders(working.connection, column, values, working.rules)
        working.load(patient for _, patient in best.values())
        freed = [value for value, (number, _) in best.items() if not _claims(working.records[number], column, value)]
        if freed:
            working.load(find_holding_patients(working.connection, column, freed, (LIVE, REFUSED)))
        # Whoever was the best before the order of priority changed must go now.
        promoted = [value for value, (number, _) in best.items() if working.records[number].state == REFUSED]
        if promoted:
            working.load(find_holding_patients(working.connection, column, promoted, (LIVE,)))
    working.load(started.values())
    return started


def _claims(record: Record, column: str, value: str) -> bool:
    return record.fields.get(column) == value and record.state in (LIVE, REFUSED)


def _index_claimants(working: WorkingSet) -> dict[Identifier, list[Record]]:
    index: dict[Identifier, list[Record]] = {}
    for record in working.records.values():
        if record.state in (LIVE, REFUSED):
            for pair in record.identifiers():
                index.setdefault(pair, []).append(record)
    return index
