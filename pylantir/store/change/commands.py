"""Carries out operators' commands on the worklist.

Lives in the writer, which carries out commands between two batches. Every change of an item goes through the same
decision as a sync (`WorkingSet`): another record takes a freed number at once, and an item that no source gives does
not come back. The audit log names the command.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from sqlalchemy import Connection, Engine, Select, and_, delete, select, update

from pylantir.entry import CANCELED, COMPLETED, DISCONTINUED, IN_PROGRESS, SCHEDULED
from pylantir.errors import CommandRefused
from pylantir.store.clock import Clock, local_day, system_time, utc_now
from pylantir.store.decide.claims import STATUS, STUDY_UID, Rules
from pylantir.store.decide.evidence import Description, are_two_patients
from pylantir.store.decide.records import IDENTIFIERS, REFUSED, WITHDRAWN
from pylantir.store.intake.outcome import format_ids, tell_events
from pylantir.store.intake.working.items import Events
from pylantir.store.intake.working_set import WorkingSet
from pylantir.store.schema.audit_guard import add_lines
from pylantir.store.schema.engine import transaction
from pylantir.store.schema.tables import (
    rejected_entries,
    source_entries,
    source_states,
    source_warnings,
    worklist_items,
)

SETTABLE_STATUSES = (SCHEDULED, IN_PROGRESS, COMPLETED, DISCONTINUED, CANCELED)
_ENTRIES = source_entries.c
_ITEMS = worklist_items.c


def carry_out(engine: Engine, rules: Rules, command: Mapping[str, object], *, clock: Clock = system_time) -> str:
    """Carry out an operator's command from the control socket; return what was done.

    Raises:
        CommandRefused: The command cannot be carried out or is malformed.
    """
    item, dry_run = command.get("item"), command.get("dry_run") is True
    match command.get("command"):
        case "forget":
            return forget_source(engine, str(command.get("name")), rules, dry_run=dry_run, clock=clock)
        case "set-status" if type(item) is int:
            status, reason = str(command.get("status")), str(command.get("reason") or "")
            return set_status(engine, item, status, reason, rules, dry_run=dry_run, clock=clock)
    raise CommandRefused("a command that the writer does not know, or without its arguments")


def forget_source(
    engine: Engine, source: str, rules: Rules, *, dry_run: bool = False, clock: Clock = system_time
) -> str:
    """Withdraw all records of a source that is disabled or no longer configured.

    Returns:
        What was done, for the operator.

    Raises:
        CommandRefused: The source is enabled or has no records.
    """
    if source in rules.ranks:
        raise CommandRefused(
            f"{source} is configured and enabled; take it out of the configuration or disable it, and reload; "
            "then forget it"
        )
    with transaction(engine, dry_run=dry_run) as connection:
        patients = find_patients(
            connection, select(_ENTRIES.patient_id).where(_ENTRIES.data_source == source, _ENTRIES.state != WITHDRAWN)
        )
        if not patients:
            raise CommandRefused(f"there is nothing of a source named {source}")
        working = WorkingSet(connection, rules, actor="command:forget", now=utc_now(clock))
        working.load(patients)
        claims = [one for one in working.records.values() if one.data_source == source and one.state != WITHDRAWN]
        for record in claims:
            working.enter(record, WITHDRAWN)
        working.write()
        for table in (rejected_entries, source_warnings, source_states):
            connection.execute(delete(table).where(table.c.data_source == source))
    if not dry_run:
        tell_events("command forget", working.events)
    would = "would be " if dry_run else ""
    return f"{source}: {len(claims)} records {would}withdrawn, {len(working.events.cancelled)} items {would}cancelled"


def set_status(
    engine: Engine,
    item_id: int,
    status: str,
    reason: str,
    rules: Rules,
    *,
    dry_run: bool = False,
    clock: Clock = system_time,
) -> str:
    """Set an item's status by hand, for scanners that do not report.

    The item then counts as if a scanner had reported; SCHEDULED gives it back to its sources.

    Returns:
        What was done, for the operator.

    Raises:
        CommandRefused: There is no such item or status, the reason is missing, or the item would not keep the status;
            nothing has changed.
    """
    if status not in SETTABLE_STATUSES:
        raise CommandRefused(f'no status "{status}"; there are: {", ".join(SETTABLE_STATUSES)}')
    if not reason.strip():
        raise CommandRefused("a reason is needed: it goes into the audit log")
    now = utc_now(clock)
    this = _ITEMS.id == item_id
    with transaction(engine, dry_run=dry_run) as connection:
        item = connection.execute(select(worklist_items).where(this)).mappings().one_or_none()
        if item is None:
            raise CommandRefused(f"no item {item_id}; `pylantir query-db --all` shows them")
        before = item[STATUS]
        connection.execute(
            update(worklist_items).where(this),
            {
                STATUS: status,
                "scanner_touched": int(status != SCHEDULED),
                "updated_at": now,
                "exam_ended_on": local_day(clock) if status == COMPLETED else None,
            },
        )
        changes = {STATUS: [before, status], "reason": [None, reason]}
        note = {"at": now, "actor": "command:set-status", "action": "status", "item_id": item_id}
        note |= {"patient_id": item["patient_id"], "changes": json.dumps(changes, ensure_ascii=False)}
        add_lines(connection, [note])
        working = WorkingSet(connection, rules, actor="command:set-status", now=now)
        working.load([item["patient_id"]])
        working.open_again(item_id)
        working.free(item)
        working.touch_all()
        working.write()
        changed = connection.execute(select(worklist_items).where(this)).mappings().one()
        after = changed[STATUS]
        if after != status:
            why = _explain(connection, item_id, after)
            raise CommandRefused(f"item {item_id} stays {before}: {why}, so it would be {after} at once")
        # Its sources may have given it other numbers meanwhile.
        for numbers in (item, changed):
            _refuse_taken_numbers(connection, numbers, before, status)
    if not dry_run:
        tell_events("command set-status", working.events)
    done = " (not done: a dry run)" if dry_run else ""
    return f"item {item_id}: {before} -> {status}{_name_others(working.events, item_id)}{done}"


def _explain(connection: Connection, item_id: int, after: str) -> str:
    """Say why an item does not keep the status that an operator wants."""
    if after != CANCELED:
        return "its sources say otherwise"
    refused = rejected_entries.c
    same_record = and_(refused.data_source == _ENTRIES.data_source, refused.record_key == _ENTRIES.record_key)
    waiting = (
        select(refused.field, refused.other_item)
        .select_from(source_entries.join(rejected_entries, same_record))
        .where(_ENTRIES.item_id == item_id, _ENTRIES.state == REFUSED)
    )
    row = connection.execute(waiting).first()
    return f"item {row.other_item} of another patient has its {row.field}" if row else "no source gives it"


def _name_others(events: Events, item_id: int) -> str:
    """Name the other items that change with an item's status: they share its numbers, or are the same patient's."""
    kinds = {"cancelled": events.cancelled, "listed": events.inserted, "changed": events.changed}
    return "".join(
        f"; also {word}: {format_ids(others)}" for word, ids in kinds.items() if (others := {*ids} - {item_id})
    )


def _refuse_taken_numbers(connection: Connection, item: Mapping[Any, Any], before: str, status: str) -> None:
    """Refuse to bring back a cancelled item whose numbers a scanner has used for another patient meanwhile."""
    for name in IDENTIFIERS if status != CANCELED else ():
        # A done exam's accession number may be used again, its study UID never.
        without = (CANCELED,) if name == STUDY_UID else (CANCELED, COMPLETED)
        others = select(worklist_items).where(
            _ITEMS[name] == item[name], _ITEMS[STATUS].not_in(without), _ITEMS.id != item["id"]
        )
        for other in connection.execute(others).mappings() if item[name] else ():
            if are_two_patients(cast("Description", other), cast("Description", item)):
                raise CommandRefused(
                    f"item {item['id']} stays {before}: item {other['id']} of another patient has its {name}"
                )


def find_patients(connection: Connection, statement: Select[tuple[str]]) -> list[str]:
    """Return the patient IDs that a statement finds, each once, in order."""
    return sorted(set(connection.scalars(statement)))
