"""Stores one batch: compares its records with the stored ones (`classify`) and writes the changes.

Lives in the writer. In: a transaction and the batch. Out: what it did. Most records of a first sync are inserted
without a decision (`newcomers`); if the database already knows the patient, `working_set` decides again. A PostgreSQL
server may be far away: what can be asked together is asked before the first answer is read (`bulk.ask`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import replace

from sqlalchemy import Connection

from pylantir.ipc.cycles import EntryBatch, Rejection
from pylantir.ipc.records import RecordColumns
from pylantir.store.decide.claims import STUDY_UID, Rules
from pylantir.store.decide.classify import Existing, classify, why_same_key
from pylantir.store.decide.evidence import is_another_patient
from pylantir.store.decide.moves import may_have_become
from pylantir.store.decide.records import LIVE, PENDING, REFUSED, WITHDRAWN, Record
from pylantir.store.failures import is_passing
from pylantir.store.intake.newcomers import find_undecided_patients, insert_newcomers
from pylantir.store.intake.outcome import Outcome
from pylantir.store.intake.quarantine import add_rejections, note_sightings, remove_rejections, storable
from pylantir.store.intake.records import Stored, ask_existing, ask_stored
from pylantir.store.intake.state import CycleState
from pylantir.store.intake.working.items import Events
from pylantir.store.intake.working_set import WorkingSet
from pylantir.store.schema.adoption import complete_old_ids, match_old_records
from pylantir.store.schema.engine import hear
from pylantir.store.schema.facts import Facts


class BatchIntake:
    """Stores one batch.

    Args:
        connection: In the batch's transaction.
        source: The source's name.
        rules: Priorities and the matching rule.
        cycle: What the cycle has shown before this batch.
        again: Ids of the unchanged records whose passages this batch names.
        snapshot: The cycle shows everything that the source has, so each key may come only once.
        now: The time.
    """

    def __init__(
        self,
        connection: Connection,
        source: str,
        rules: Rules,
        cycle: CycleState,
        *,
        again: Set[int],
        snapshot: bool,
        now: str,
    ) -> None:
        self._connection = connection
        self._source = source
        self._rules = rules
        self._cycle = cycle
        self._again = again
        self._snapshot = snapshot
        self._now = now

    def take_in(self, batch: EntryBatch, stored: Stored | None) -> Outcome:
        """Store the batch, and note which records it shows.

        Args:
            batch: The batch.
            stored: What is stored of its records; None: store them one by one, each only if it can be stored.
        """
        if not batch.records:
            result = Outcome()
        elif stored is None:
            result = self._store_singly(batch.records)
        else:
            result = self._store(batch.records, stored.existing(), stored.facts())
        result.rejected += batch.rejected
        present = [storable(key) for key in batch.present]
        self._bring_back(present, result)
        # The source still has a record that became unreadable: the record keeps its item.
        shown = [*present, *(storable(one.record_key) for one in result.rejected)]
        still = ask_existing(self._connection, self._source, shown)()
        result.seen += [row.id for row in still.values() if row.state != WITHDRAWN]
        result.counts["fetched"] += len(self._again) + len(batch.records) - result.repeats + len(batch.rejected)
        result.counts["unchanged"] += len(self._again)
        result.counts["rejected"] += len(result.rejected)
        note_sightings(self._connection, self._source, [*result.refused, *present], self._now)
        add_rejections(self._connection, self._source, result.rejected, self._now)
        return result

    def _store(self, records: RecordColumns, existing: Mapping[str, Existing], facts: Facts) -> Outcome:
        """Store the records together.

        Args:
            records: The records.
            existing: Those of them that are stored.
            facts: What the transaction knows of the database.
        """
        compared = classify(records, existing, self._has_seen, snapshot=self._snapshot)
        result = Outcome(repeats=len(compared.repeats), unclean=set(compared.repeats))
        result.reject(_same_key(records.keys[place], records.patients[place]) for place in compared.conflicts)
        for key, prior in compared.unchanged.items():
            result.note(key, prior.id, prior.state, "unchanged")
            if prior.state == REFUSED:
                result.refused.append(key)
        fresh = records.pick(compared.fresh)
        if fresh:
            complete_old_ids(self._connection, self._source, fresh.patients, self._rules.ranks, self._now)
            undecided = self._find_undecided_patients(fresh, existing, facts)
            plain = fresh.pick([place for place, patient in enumerate(fresh.patients) if patient not in undecided])
            if plain:
                result.add(self._add(plain, facts))
            if undecided:
                rest = fresh.pick([place for place, patient in enumerate(fresh.patients) if patient in undecided])
                facts = facts.after(len(plain), supplies_uids=STUDY_UID in plain.values)
                result.add(self._decide(rest, existing, {*self._again, *result.seen}, facts))
        return result

    def _store_singly(self, records: RecordColumns) -> Outcome:
        """Store the records one by one, each under a savepoint of its own; those that cannot be stored are rejected."""
        result = Outcome()
        # The cycle counts these records as seen only after the commit.
        self._cycle = replace(self._cycle, seen=bytearray(self._cycle.seen))
        for place, key in enumerate(records.keys):
            try:
                with self._connection.begin_nested():
                    own = records.pick([place])
                    stored = ask_stored(self._connection, self._source, own, self._rules.version)
                    one = self._store(own, stored.existing(), stored.facts())
                    hear(self._connection)
            except Exception as error:
                if is_passing(error):
                    raise
                reason = f"cannot be stored ({type(error).__name__}); the writer's log says why"
                result.rejected.append(Rejection(key, "", reason, records.patients[place]))
            else:
                result.add(one)
                self._cycle.mark_seen(one.seen)
        return result

    def _has_seen(self, record_id: int) -> bool:
        return record_id in self._again or self._cycle.has_seen(record_id)

    def _find_undecided_patients(
        self, fresh: RecordColumns, existing: Mapping[str, Existing], facts: Facts
    ) -> Set[str]:
        """Return the patients whose records cannot simply be inserted."""
        known = [key for key in fresh.keys if key in existing]
        undecided = {patient for key, patient in zip(fresh.keys, fresh.patients, strict=True) if key in existing}
        undecided |= {existing[key].patient_id for key in known}
        if undecided.issuperset(fresh.patients):
            return undecided
        today = self._now[:10].replace("-", "")
        undecided |= find_undecided_patients(
            self._connection, self._source, fresh, facts=facts, is_seen=self._is_seen, today=today
        )
        plain = [key for key, patient in zip(fresh.keys, fresh.patients, strict=True) if patient not in undecided]
        # An incremental source may give a record twice: the later one counts.
        return undecided if len(set(plain)) == len(plain) else set(fresh.patients)

    def _add(self, plain: RecordColumns, facts: Facts) -> Outcome:
        """Insert records that need no decision."""
        record_ids, item_ids = insert_newcomers(self._connection, self._source, plain, self._now, facts=facts)
        remove_rejections(self._connection, self._source, plain.keys)
        result = Outcome(
            seen=list(record_ids),
            ids=dict(zip(plain.keys, record_ids, strict=True)),
            events=[Events(inserted=list(item_ids))],
        )
        result.counts["inserted"] = len(plain)
        return result

    def _decide(self, fresh: RecordColumns, existing: Mapping[str, Existing], seen: set[int], facts: Facts) -> Outcome:
        """Store records of known patients, and decide again about all records of these patients."""
        said = fresh.fields()
        working = self._open(facts)
        working.load([*fresh.patients, *(existing[key].patient_id for key in said if key in existing)])
        records = {key: working.records[existing[key].id] for key in said if key in existing}
        newcomers = {key: fields for key, fields in said.items() if key not in existing}
        records |= match_old_records(working.records.values(), self._source, newcomers, self._rules.ranks)
        touched: list[tuple[Record, str]] = []
        for key, fields in said.items():
            known = records.get(key)
            arrives = known is None or known.state == WITHDRAWN or is_another_patient(known.fields, fields)
            state = self._state_of_newcomer(working, seen, key, fields) if arrives else LIVE
            is_new = known is None or known.state == WITHDRAWN or state == PENDING
            if known is None:
                record = working.add(self._source, key, fields, state)
            else:
                record = known
                record.data_source, record.record_key = self._source, key
                working.change(record, fields)
                if is_new:
                    working.enter(record, state)
            seen.add(record.id)
            touched.append((record, "inserted" if is_new else "updated"))
        working.write()
        result = Outcome(events=[working.events])
        for record, counted_as in touched:
            result.note(record.record_key, record.id, record.state, counted_as)
        result.counts["cancelled"] += len(working.events.cancelled)
        accepted = [record.record_key for record, _ in touched if record.state != REFUSED]
        remove_rejections(self._connection, self._source, accepted)
        return result

    def _bring_back(self, present: Sequence[str], result: Outcome) -> None:
        """Make live again, unchanged, the withdrawn records that the source lists again."""
        existing = ask_existing(self._connection, self._source, present)()
        back = [row for row in existing.values() if row.state == WITHDRAWN]
        if not back:
            return
        working = self._open()
        working.load(row.patient_id for row in back)
        for row in back:
            working.enter(working.records[row.id], LIVE)
        working.write()
        result.counts["fetched"] += len(back)
        result.counts["inserted"] += len(back)
        result.events.append(working.events)

    def _open(self, facts: Facts | None = None) -> WorkingSet:
        return WorkingSet(self._connection, self._rules, actor=f"source:{self._source}", now=self._now, facts=facts)

    def _is_seen(self, record_id: int) -> bool:
        return not self._snapshot or record_id in self._again or self._cycle.has_seen(record_id)

    def _state_of_newcomer(self, working: WorkingSet, seen: Set[int], key: str, fields: Mapping[str, str]) -> str:
        """Return PENDING if a patient's new record may replace one that the snapshot has not shown yet, else LIVE."""
        if not self._snapshot:
            return LIVE
        for record in working.records_of(fields["patient_id"]):
            if record.data_source != self._source or record.state != LIVE or record.id in seen:
                continue
            if not self._is_seen(record.id) and may_have_become(record, key, fields):
                return PENDING
        return LIVE


def _same_key(key: str, patient_id: str) -> Rejection:
    return Rejection(key, "source_record_id", why_same_key(key), patient_id)
