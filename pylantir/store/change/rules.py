"""Decides again about stored records when the writer starts: after a change of the configuration or of the program.

Lives in the writer. The database keeps the rules that its items follow. A changed configuration takes effect at once. A
newer version of the program must not surprise a scanner: where its rules would give a listed exam another study UID,
the present state stays for a day, and `pylantir conflicts` lists it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

from sqlalchemy import Connection, Engine, and_, case, delete, func, insert, or_, select

from pylantir.entry import CANCELED, SCHEDULED
from pylantir.store.change.commands import find_patients
from pylantir.store.clock import Clock, system_time, utc_now
from pylantir.store.decide.claims import STATUS, STUDY_UID, Rules
from pylantir.store.decide.differences import HELD, Difference
from pylantir.store.decide.records import LIVE, REFUSED
from pylantir.store.intake.working.differences import add_differences
from pylantir.store.intake.working_set import WorkingSet
from pylantir.store.schema.bulk import chunks
from pylantir.store.schema.tables import conflicts, source_entries, store_facts, worklist_items

HELD_FOR = timedelta(days=1)
"""So long an operator can look at what the rules of a newer version would change."""
_RULES_FACT = "rules"
_DECISION = 4
"""Version of the program's rules; the writer decides again at its start if the database has an older one."""
_ENTRIES = source_entries.c
_ITEMS = worklist_items.c


@dataclass(slots=True)
class Applied:
    """What the rules changed: how many items, and how many patients wait because a study UID would change."""

    changed: int = 0
    held: int = 0


def follow_rules(connection: Connection, rules: Rules, *, clock: Clock = system_time) -> Applied:
    """Decide again about all records that a changed configuration or a newer version may affect."""
    ordered = sorted(rules.ranks, key=lambda source: rules.ranks[source])
    present = json.dumps([_DECISION, ordered, rules.match_on, rules.max_minutes, rules.max_minutes_touched])
    facts, applied, now = store_facts.c, Applied(), utc_now(clock)
    stored = connection.scalar(select(facts.value).where(facts.name == _RULES_FACT))
    due = utc_now(lambda: clock() - HELD_FOR)
    waiting = select(conflicts.c.patient_id).where(conflicts.c.kind == HELD)
    patients = find_patients(connection, waiting.where(conflicts.c.since < due))
    is_old = _version(stored) < _DECISION
    if stored != present:
        patients = sorted({*patients, *_find_affected(connection, is_old=is_old)})
    for chunk in chunks(patients):
        held = _hold_back(connection, chunk, rules, now) if is_old else []
        applied.held += len(held)
        free = [patient for patient in chunk if patient not in held]
        applied.changed += _decide_anew(connection, free, rules, actor="command:reload", now=now)
    if stored != present:
        connection.execute(delete(store_facts).where(facts.name == _RULES_FACT))
        connection.execute(insert(store_facts), {"name": _RULES_FACT, "value": present})
    return applied


def restore_items(engine: Engine, rules: Rules, *, clock: Clock = system_time) -> int:
    """Decide again about live records that no item represents.

    Somebody may have repaired or cleaned the file, or the record's source was not enabled when it could have come in.

    Returns:
        How many items were changed.
    """
    lost = (
        select(_ENTRIES.patient_id)
        .select_from(source_entries.outerjoin(worklist_items, _ITEMS.id == _ENTRIES.item_id))
        .where(
            _ENTRIES.state == LIVE,
            or_(_ITEMS.id.is_(None), and_(_ITEMS[STATUS] == CANCELED, _ITEMS.scanner_touched == 0)),
        )
    )
    with engine.begin() as connection:
        patients = find_patients(connection, lost)
        return sum(
            _decide_anew(connection, chunk, rules, actor="command:start", now=utc_now(clock))
            for chunk in chunks(patients)
        )


def _version(stored: str | None) -> int:
    first = json.loads(stored)[0] if stored else 0
    return first if isinstance(first, int) else 0


def _find_affected(connection: Connection, *, is_old: bool) -> list[str]:
    """Return the patients about whom other rules may decide otherwise."""
    # If only one source has records of a patient, the configured rules make no difference.
    shared = (
        select(_ENTRIES.patient_id)
        .group_by(_ENTRIES.patient_id)
        .having(
            or_(
                func.count(_ENTRIES.data_source.distinct()) > 1,
                func.sum(case((_ENTRIES.state == REFUSED, 1), else_=0)) > 0,
            )
        )
    )
    found = find_patients(connection, shared)
    if is_old:
        served = _ITEMS[STATUS] != CANCELED
        twice = select(_ITEMS[STUDY_UID]).where(served).group_by(_ITEMS[STUDY_UID])
        twice = twice.having(func.count(_ITEMS.patient_id.distinct()) > 1)
        found += find_patients(connection, select(_ITEMS.patient_id).where(served, _ITEMS[STUDY_UID].in_(twice)))
    return found


def _hold_back(connection: Connection, patients: list[str], rules: Rules, now: str) -> list[str]:
    """Try the rules, note the patients for whom a listed exam would get another study UID, and return these.

    Nobody is held back whose present UID is served for another patient too.
    """
    before = _find_listed(connection, patients)
    with connection.begin_nested() as trial:
        _decide_anew(connection, patients, rules, actor="command:reload", now=now)
        after = _find_listed(connection, patients)
        trial.rollback()
    kept = {(one.item_id, one.study_uid) for one in after.values()}
    owners: dict[str, set[str]] = {}
    members: dict[int, list[_Listed]] = {}
    for one in before.values():
        owners.setdefault(one.study_uid, set()).add(one.patient_id)
        members.setdefault(one.item_id, []).append(one)
    held: dict[str, list[Difference]] = {}
    for item_id, own in members.items():
        uid, patient = own[0].study_uid, own[0].patient_id
        others = sorted({after[one.record_id].study_uid for one in own if one.record_id in after})
        if (item_id, uid) in kept or not others or len(owners[uid]) > 1:
            continue
        entry = Difference(
            kind=HELD, items=(item_id,), sources=tuple(one.source for one in own),
            records=tuple(one.record_key for one in own), fields={STUDY_UID: (others[0], uid)},
        )  # fmt: skip
        held.setdefault(patient, []).append(entry)
    add_differences(connection, held, now)
    return sorted(held)


class _Listed(NamedTuple):
    """A live record and the study UID with which scanners see it; no scanner has reported on its item."""

    record_id: int
    source: str
    record_key: str
    patient_id: str
    item_id: int
    study_uid: str


def _find_listed(connection: Connection, patients: list[str]) -> dict[int, _Listed]:
    rows = connection.execute(
        select(
            _ENTRIES.id, _ENTRIES.data_source, _ENTRIES.record_key, _ENTRIES.patient_id, _ITEMS.id, _ITEMS[STUDY_UID]
        )
        .select_from(source_entries.join(worklist_items, _ITEMS.id == _ENTRIES.item_id))
        .where(
            _ENTRIES.patient_id.in_(patients),
            _ENTRIES.state == LIVE,
            _ITEMS[STATUS] == SCHEDULED,
            _ITEMS.scanner_touched == 0,
        )
        .order_by(_ENTRIES.id)
    )
    return {row[0]: _Listed(*row) for row in rows}


def _decide_anew(connection: Connection, patients: Iterable[str], rules: Rules, *, actor: str, now: str) -> int:
    working = WorkingSet(connection, rules, actor=actor, now=now)
    working.load(patients)
    working.touch_all()
    working.write()
    events = working.events
    return len(events.inserted) + len(events.changed) + len(events.cancelled)
