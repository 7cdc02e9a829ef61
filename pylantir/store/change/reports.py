"""Stores scanners' reports: the decision, its audit lines and its answer in one transaction.

Lives in the writer. In: a request; out: its answer, after the COMMIT. From the first report on, the scanner sets the
item's status. A request that was not committed is not answered; the scanner may repeat it.
"""

from __future__ import annotations

import datetime
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection, Engine, delete, insert, select, update

from pylantir.entry import CANCELED
from pylantir.errors import MppsRefused, WriterUnavailable
from pylantir.mpps.linking import Link, Linked, link_items, next_item_status, read_clues
from pylantir.mpps.model import (
    COMPLETED,
    DISCONTINUED,
    END_DATE,
    END_TIME,
    IN_PROGRESS,
    PATIENT_ID,
    SERIES_SEQUENCE,
    START_DATE,
    START_TIME,
    DimseStatus,
    MppsAnswer,
    MppsInstance,
    MppsRequest,
    day_of,
    items_of,
    text_of,
)
from pylantir.mpps.rules import Decision, decide, instance_uid
from pylantir.store.decide.claims import STATUS, STUDY_UID, Rules
from pylantir.store.intake.outcome import tell_events
from pylantir.store.intake.working.items import Events
from pylantir.store.intake.working_set import WorkingSet
from pylantir.store.read.candidates import find_candidates
from pylantir.store.read.mpps import find_instance
from pylantir.store.schema.audit_guard import add_lines
from pylantir.store.schema.engine import transaction
from pylantir.store.schema.tables import mpps_instances, mpps_requests, worklist_items

ANSWERS_KEPT = datetime.timedelta(hours=1)
"""A repeat arrives within seconds, because the server waits no longer than `mpps.timeout`."""
_TOO_LATE = "the report came too late to be stored"
_ACTIONS = {IN_PROGRESS: "started", COMPLETED: "completed", DISCONTINUED: "discontinued"}
_ITEMS = worklist_items.c

logger = logging.getLogger(__name__)


def record_report(
    engine: Engine,
    request: MppsRequest,
    rules: Rules,
    *,
    strict: bool,
    now: datetime.datetime,
    today: str,
    is_awaited: Callable[[], bool] = lambda: True,
) -> MppsAnswer:
    """Decide on a report and store the result; returns after the COMMIT.

    Args:
        engine: The database, opened for writing.
        request: The scanner's request.
        rules: Priorities and the matching rule.
        strict: As `pylantir.mpps.rules.decide`.
        now: The time, in UTC.
        today: The local day, YYYYMMDD.
        is_awaited: Tells whether the scanner still waits; called last, because the database may have been locked. What
            is stored already is answered all the same.

    Raises:
        WriterUnavailable: The scanner no longer waits; nothing has changed.
        sqlalchemy.exc.SQLAlchemyError: The report could not be stored now; nothing has changed.
    """
    moment = now.isoformat(timespec="microseconds")
    with transaction(engine, pipelined=True) as connection:
        is_same = mpps_requests.c.request_id == request.kept_as
        known = connection.scalar(select(mpps_requests.c.answer).where(is_same))
        if known is not None:
            # The server may have been restarted within its COMMIT: then everybody sees it, but no standby has it yet. A
            # COMMIT that writes waits for all before it.
            connection.execute(update(mpps_requests).where(is_same).values(at=moment))
            return MppsAnswer.from_json(json.loads(known))
        if not is_awaited():
            raise WriterUnavailable(_TOO_LATE)
        stored = _find_stored(connection, request, strict=strict)
        decision = decide(request, stored, strict=strict)
        changes: list[_ItemChange] = []
        linked = Linked(())
        events = Events()
        if decision.instance:
            changes, linked = _store(connection, request, stored, decision, moment, today)
        if changes:
            events = _decide_anew(connection, changes, rules, actor=f"scanner:{request.scanner}", now=moment)
        kept_since = (now - ANSWERS_KEPT).isoformat(timespec="microseconds")
        connection.execute(delete(mpps_requests).where(mpps_requests.c.at < kept_since))
        answer = json.dumps(decision.answer.as_json())
        connection.execute(insert(mpps_requests), {"request_id": request.kept_as, "answer": answer, "at": moment})
        if not is_awaited():
            raise WriterUnavailable(_TOO_LATE)
    _log(request, decision, changes, linked)
    tell_events(f"MPPS of {request.scanner}", events)
    return decision.answer


@dataclass(frozen=True, slots=True)
class _ItemChange:
    """One item of the report, newly found or linked before, with its status before and after."""

    item_id: int
    patient_id: str | None
    before: str | None
    after: str
    link: Link | None
    study_uid: str | None


def _find_stored(connection: Connection, request: MppsRequest, *, strict: bool) -> MppsInstance | None:
    try:
        uid = instance_uid(request, strict=strict)
    except MppsRefused:
        return None
    return find_instance(connection, uid)


def _store(
    connection: Connection,
    request: MppsRequest,
    stored: MppsInstance | None,
    decision: Decision,
    now: str,
    today: str,
) -> tuple[list[_ItemChange], Linked]:
    """Store an instance; return the changes to its items, and what was found for it now."""
    instance = decision.instance
    if instance is None:
        return [], Linked(())
    # An item that was missing when the exam began may have arrived meanwhile.
    linked = Linked(()) if instance.item_ids else _find_links(connection, instance, today)
    new_links = linked.links
    instance = replace(instance, item_ids=(*instance.item_ids, *(link.item_id for link in new_links)))
    _write_instance(connection, instance, stored, request.scanner, now)
    if stored is None or new_links or instance.status != stored.status:
        changes = _set_statuses(connection, instance, new_links, now, today)
        said = _performed(instance)
        if linked.ambiguous:
            said["items_that_fit"] = ", ".join(map(str, linked.ambiguous))
        if linked.of_others:
            said["items_of_others"] = ", ".join(map(str, linked.of_others))
        _audit(connection, request, instance, _ACTIONS[instance.status], said, changes, now)
    else:
        changes = []
        said = {"attributes": ", ".join(decision.changed)}
        _audit(connection, request, instance, "updated", said, changes, now)
    return changes, linked


def _decide_anew(
    connection: Connection, changes: Sequence[_ItemChange], rules: Rules, *, actor: str, now: str
) -> Events:
    """Decide again about the patients of a report: it may free a number, or let an item follow its sources again.

    Returns:
        What this did to items, for the log.
    """
    working = WorkingSet(connection, rules, actor=actor, now=now)
    working.load(change.patient_id for change in changes if change.patient_id)
    for change in changes:
        working.open_again(change.item_id)
    # A row of an earlier version that no record could be made of is the scanner's concern alone.
    for record in list(working.records.values()):
        working.touch(record)
    items = working.items()
    for change in changes:
        if change.item_id in items:
            working.free(items[change.item_id].values)
    working.write()
    return working.events


def _find_links(connection: Connection, instance: MppsInstance, today: str) -> Linked:
    clues = read_clues(instance.attributes, today)
    return link_items(clues, find_candidates(connection, clues))


def _write_instance(
    connection: Connection, instance: MppsInstance, stored: MppsInstance | None, scanner: str, now: str
) -> None:
    values = {
        "status": instance.status,
        "patient_id": text_of(instance.attributes, PATIENT_ID) or None,
        "item_ids": json.dumps(instance.item_ids),
        "attributes": json.dumps(instance.attributes),
        "updated_at": now,
    }
    if stored is None:
        first = {"sop_instance_uid": instance.sop_instance_uid, "scanner": scanner, "created_at": now}
        connection.execute(insert(mpps_instances), {**values, **first})
    else:
        this = mpps_instances.c.sop_instance_uid == instance.sop_instance_uid
        connection.execute(update(mpps_instances).where(this), values)


def _set_statuses(
    connection: Connection, instance: MppsInstance, new_links: Sequence[Link], now: str, today: str
) -> list[_ItemChange]:
    links = {link.item_id: link for link in new_links}
    columns = (_ITEMS.id, _ITEMS.patient_id, _ITEMS[STATUS], _ITEMS.study_instance_uid)
    rows = connection.execute(select(*columns).where(_ITEMS.id.in_(instance.item_ids)).order_by(_ITEMS.id)).all()
    changes = [
        _ItemChange(number, patient, status, next_item_status(status, instance.status), links.get(number), uid)
        for number, patient, status, uid in rows
    ]
    ended_on = day_of(instance.attributes, END_DATE) or today
    for change in changes:
        values: dict[str, object] = {STATUS: change.after, "scanner_touched": 1, "updated_at": now}
        if instance.status == COMPLETED:
            values["exam_ended_on"] = ended_on
        if change.link and change.link.former_uid:
            # The scanner took the exam from an earlier answer: its images have that study UID.
            values[STUDY_UID] = change.link.former_uid
        connection.execute(update(worklist_items).where(_ITEMS.id == change.item_id), values)
    return changes


def _audit(
    connection: Connection,
    request: MppsRequest,
    instance: MppsInstance,
    action: str,
    said: Mapping[str, str],
    changes: Sequence[_ItemChange],
    now: str,
) -> None:
    """Write one audit row per item, or a single row without an item."""
    common = {"mpps": instance.sop_instance_uid, **said}
    rows: list[tuple[int | None, str | None, Mapping[str, object]]] = []
    for change in changes:
        found: dict[str, object] = {"linked_by": change.link.rule} if change.link else {}
        if change.link and change.link.former_uid:
            found[STUDY_UID] = [change.study_uid, change.link.former_uid]
        rows.append((change.item_id, change.patient_id, {STATUS: [change.before, change.after], **found, **common}))
    if not rows:
        patient = text_of(instance.attributes, PATIENT_ID) or None
        rows = [(item, patient, common) for item in instance.item_ids or (None,)]
    lines = []
    for item_id, patient_id, told in rows:
        note = {"at": now, "actor": f"scanner:{request.scanner}", "action": action, "item_id": item_id}
        note |= {"patient_id": patient_id, "changes": json.dumps(told, ensure_ascii=False)}
        lines.append(note)
    add_lines(connection, lines)


def _performed(instance: MppsInstance) -> dict[str, str]:
    attributes = instance.attributes
    moments = {
        "began": f"{text_of(attributes, START_DATE)} {text_of(attributes, START_TIME)}".strip(),
        "ended": f"{text_of(attributes, END_DATE)} {text_of(attributes, END_TIME)}".strip(),
        "series": str(len(items_of(attributes, SERIES_SEQUENCE)) or ""),
    }
    return {name: value for name, value in moments.items() if value}


def _log(request: MppsRequest, decision: Decision, changes: Sequence[_ItemChange], linked: Linked) -> None:
    if decision.answer.forgiven:
        logger.warning("MPPS of %s accepted without %s", request.scanner, ", ".join(decision.answer.forgiven))
    for remark in decision.answer.remarks:
        logger.warning("MPPS of %s accepted though %s", request.scanner, remark)
    if decision.answer.status != DimseStatus.SUCCESS:
        return
    for change in changes:
        logger.info("item %d: %s -> %s by %s", change.item_id, change.before, change.after, request.scanner)
        if change.before == CANCELED:
            message = "item %d was cancelled, and %s reports on it: if the exam is booked anew, cancel that booking"
            logger.warning(message, change.item_id, request.scanner)
        if change.link and change.link.other_patient:
            logger.warning("item %d: %s reports it for another patient ID or person", change.item_id, request.scanner)
    if linked.of_others:
        others = ", ".join(map(str, linked.of_others))
        logger.warning("MPPS of %s does not count for items of other patients: %s", request.scanner, others)
    if linked.ambiguous:
        fit, count = ", ".join(map(str, linked.ambiguous)), len(linked.ambiguous)
        logger.warning("MPPS of %s belongs to no item: %d items fit (%s)", request.scanner, count, fit)
    elif request.operation == "create" and not changes:
        logger.info("MPPS of %s belongs to no item: an unscheduled exam", request.scanner)
