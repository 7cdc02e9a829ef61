"""Finds who owns the numbers that records of several patients claim; admits and refuses the records by that.

`identifiers` decides; this module brings everybody into memory who has a say. Lives in the writer.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

from sqlalchemy import Connection

from pylantir.store.decide.claims import Rules
from pylantir.store.decide.identifiers import Holder, Identifier, find_obstacle, find_owners, index_claims
from pylantir.store.decide.reconcile import is_frozen
from pylantir.store.decide.records import LIVE, REFUSED, Record
from pylantir.store.intake.holders import load_claimants
from pylantir.store.intake.quarantine import Refusal, name_obstacles, refuse_record, remove_rejections
from pylantir.store.intake.working.memory import Memory


class Verdict(NamedTuple):
    """A record that is refused because of the column's holder, or admitted where there is none."""

    record: Record
    obstacle: tuple[str, Holder] | None

    @property
    def state(self) -> str:
        """The record's state from now on."""
        return LIVE if self.obstacle is None else REFUSED

    @property
    def is_new(self) -> bool:
        """Whether the record's state changes."""
        return self.record.state != self.state


def judge_claimants(
    connection: Connection, memory: Memory, rules: Rules, identifiers: Collection[Identifier], today: str
) -> list[Verdict]:
    """Find the owners of some identifiers; return the records that they refuse, or admit anew.

    Args:
        connection: In a transaction.
        memory: What is read already; this function adds to it.
        rules: The order of priority.
        identifiers: The identifiers in question.
        today: YYYYMMDD.
    """
    owners: dict[Identifier, Holder | None] = {}
    claims: dict[Identifier, list[Record]] = {}
    waiting = _with_linked(memory, identifiers)
    while waiting:
        started = load_claimants(connection, memory.records, memory.items, memory.load, rules, waiting, today)
        claims = index_claims(memory.records.values(), memory.items())
        started = _with_corrected_patients(memory, started)
        owners |= find_owners(waiting, claims, started, rules, _find_members(memory, started))
        # A record whose state may change must also be judged by its other identifier.
        waiting = {
            other for pair in waiting for record in claims.get(pair, ()) for other in record.identifiers()
        } - owners.keys()
    judged = {record.id: record for pair in owners for record in claims.get(pair, ())}
    verdicts = [Verdict(record, find_obstacle(record, owners)) for record in judged.values()]
    # A record that stays refused may have another obstacle now.
    return [one for one in verdicts if one.is_new or one.obstacle]


def write_verdicts(
    connection: Connection,
    entered: Iterable[Verdict],
    unchanged: Iterable[Verdict],
    records: Mapping[int, Record],
    now: str,
) -> None:
    """Bring the quarantine up to date.

    Args:
        connection: In a transaction.
        entered: What was decided about records whose state has changed.
        unchanged: The same of records that were refused before.
        records: All records in memory, with the items that they have now.
        now: The time.
    """
    for one in entered:
        if one.obstacle is None:
            remove_rejections(connection, one.record.data_source, [one.record.record_key])
        else:
            refuse_record(connection, _describe_refusal(one.record, *one.obstacle, records), now)
    refusals = [_describe_refusal(one.record, *one.obstacle, records) for one in unchanged if one.obstacle]
    name_obstacles(connection, refusals)


def _describe_refusal(record: Record, column: str, holder: Holder, records: Mapping[int, Record]) -> Refusal:
    if holder.item_id is None and holder.record_id is not None:
        # The item was made just now.
        holder = replace(holder, item_id=records[holder.record_id].item_id)
    return Refusal(record, column, holder)


def _with_linked(memory: Memory, identifiers: Collection[Identifier]) -> set[Identifier]:
    """Return these identifiers and those that they are linked with by records in memory, to be asked for together."""
    found, new = set(identifiers), set(identifiers)
    claims = index_claims(memory.records.values(), memory.items()) if new else {}
    while new:
        new = {other for pair in new for one in claims.get(pair, ()) for other in one.identifiers()} - found
        found |= new
    return found


def _find_members(memory: Memory, started: Mapping[Identifier, Holder]) -> Mapping[int, list[Record]]:
    """Return the live records of the items that keep identifiers."""
    members: dict[int, list[Record]] = {holder.item_id: [] for holder in started.values() if holder.item_id}
    for record in memory.records.values() if members else ():
        if record.state == LIVE and record.item_id in members:
            members[record.item_id].append(record)
    return members


def _with_corrected_patients(memory: Memory, started: Mapping[Identifier, Holder]) -> dict[Identifier, Holder]:
    """Return the items that keep identifiers, under the patient ID to which this transaction corrects them.

    Such an item goes with the corrected record only: the others that it had are another patient's now.
    """
    homes = {item.id: patient for patient, items in memory.items_of.items() for item in items if not is_frozen(item)}
    return {
        pair: holder if home == holder.patient["patient_id"]
        else replace(holder, patient={**holder.patient, "patient_id": home}, started=False)
        for pair, holder in started.items()
        for home in [homes.get(holder.item_id or 0, holder.patient["patient_id"])]
    }  # fmt: skip
