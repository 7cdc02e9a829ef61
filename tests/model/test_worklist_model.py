"""Any history of sources, scanners and crashes, step by step against a small model written from the rules alone.

The model keeps what each source has been heard to say. It does not merge anything: it looks at the worklist and asks
whether that may be the answer. `PYLANTIR_MODEL_EXAMPLES` (default 60) sets how many histories are tried, `PYLANTIR_MODEL_STEPS` (40) how
long they are; `make model` tries ten thousand. `PYLANTIR_MODEL_DATABASE=postgresql` tries them on PostgreSQL.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import combinations
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import text
from worklist_store import RANKS, Feed, check_audit, items, record, report_from_scanner, rows, runs, said_in

from pylantir.entry import CANCELED, COMPLETED, IN_PROGRESS, RECORD_FIELDS, SCHEDULED
from pylantir.ipc.cycles import CycleEnd, EntryBatch, Rejection
from pylantir.store.decide.claims import STATUS
from pylantir.store.schema.engine import open_for_writing
from pylantir.store.schema.tables import metadata, source_entries
from pylantir.store.schema.upgrade import prepare_database

Key = tuple[str, str]
IDENTIFIERS = ("accession_number", "study_instance_uid")
PRIORITY = sorted(RANKS, key=lambda name: RANKS[name])
BEGIN = datetime(2030, 6, 30, 8, tzinfo=UTC)
FROZEN_BUT = {"former_study_uids", "updated_at", "source_record_id"}


def one_of(*values: str) -> st.SearchStrategy[str]:
    return st.sampled_from(values)


FIELDS = st.fixed_dictionaries(
    {
        "scheduled_start_date": one_of("20300701", "20300702"),
        "scheduled_start_time": one_of("080000", "090000", "150000"),
    },
    optional={
        "modality": one_of("MR", "CT"),
        "patient_birth_date": one_of("19800101", "19800517", "19810101"),
        "patient_sex": one_of("M", "F"),
        "protocol_name": one_of("BRAIN", "KNEE"),
    },
)
STRONG = st.fixed_dictionaries(
    {}, optional={"accession_number": one_of("N1", "N2"), "study_instance_uid": one_of("1.2.1", "1.2.2")}
)
PATIENTS = one_of("A", "B")
SOURCES = one_of(*PRIORITY)


@dataclass
class Cycle:
    """A cycle under way: its frames, and what it has shown to the present writer, which came at the frame `known`."""

    frames: list[EntryBatch]
    end: CycleEnd
    next: int = 0
    whole: bool = True
    seen: set[str] = field(default_factory=set)
    spared: set[str] = field(default_factory=set)
    forgotten: bool = False
    known: int = 0


@dataclass(frozen=True)
class Missing:
    """What the guard judges: records that were held before and are not due yet, and those that are newly missing."""

    held: set[Key]
    newly: set[Key]
    cancels: int
    of: int

    def is_suspicious(self, *, anything_new: bool) -> bool:
        """More than half of the items and at least three, or all of them while nothing new came."""
        many = self.cancels >= 3 and self.cancels > self.of / 2
        return many or (0 < self.cancels >= self.of and not anything_new)


def agree(a: Mapping[str, str], b: Mapping[str, str], name: str) -> bool:
    return name in a and a.get(name) == b.get(name)


def differ(a: Mapping[str, str], b: Mapping[str, str], name: str) -> bool:
    return name in a and name in b and a[name] != b[name]


def birth_dates_differ(a: Mapping[str, str], b: Mapping[str, str]) -> bool:
    """Whether they do; January 1st may be the year alone."""
    dates = a.get("patient_birth_date", ""), b.get("patient_birth_date", "")
    same_year = dates[0][:4] == dates[1][:4] and "0101" in (dates[0][4:], dates[1][4:])
    return all(dates) and dates[0] != dates[1] and not same_year


def contradict(a: Mapping[str, str], b: Mapping[str, str]) -> bool:
    """No rule joins two patients, or applies where a stronger key, or the birth date, differs."""
    if birth_dates_differ(a, b) or differ(a, b, "patient_id") or differ(a, b, "study_instance_uid"):
        return True
    return not agree(a, b, "study_instance_uid") and differ(a, b, "accession_number")


def same_step(a: Mapping[str, str], b: Mapping[str, str]) -> bool:
    """What makes records of two sources one step: UID, accession number, or patient, date and modality."""
    return not contradict(a, b) and (any(agree(a, b, name) for name in IDENTIFIERS) or weakly_same(a, b))


def weakly_same(a: Mapping[str, str], b: Mapping[str, str]) -> bool:
    hours = abs(int(a["scheduled_start_time"]) - int(b["scheduled_start_time"])) // 10000
    return (
        a["scheduled_start_date"] == b["scheduled_start_date"] and not differ(a, b, "modality")
        and hours <= 4 and not differ(a, b, "patient_sex")
    )  # fmt: skip


def must_be_one(a: Mapping[str, str], b: Mapping[str, str]) -> bool:
    """As `same_step`, where no second candidate can leave it open."""
    return same_step(a, b) and (
        any(agree(a, b, name) for name in IDENTIFIERS) or ("modality" in a) == ("modality" in b)
    )


def one_person(a: Mapping[str, str], b: Mapping[str, str], sign: str) -> bool:
    """Whether nothing says that two records of one patient ID are about two people."""
    if sign in IDENTIFIERS or agree(a, b, "patient_birth_date"):
        return not birth_dates_differ(a, b)
    return not birth_dates_differ(a, b) and not differ(a, b, "patient_sex")


def near(a: Mapping[str, str], b: Mapping[str, str]) -> bool:
    """Whether a record may be that of an exam that has begun: at most two hours away on the same day."""
    hours = abs(int(a["scheduled_start_time"]) - int(b["scheduled_start_time"])) / 10000
    return a["scheduled_start_date"] == b["scheduled_start_date"] and hours <= 2 and not differ(a, b, "patient_sex")


def signs(key: str, fields: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """By what a record of a patient is recognised under another key."""
    found = {name: (name, fields[name]) for name in IDENTIFIERS if name in fields}
    place = ("scheduled_start_date", "scheduled_start_time", "modality", "scheduled_station_aetitle")
    found["step"] = ("step", *(fields.get(name, "") for name in place))  # type: ignore[assignment]
    if key.startswith("step:"):
        found["moved"] = ("moved", fields.get("modality", ""))
    return found  # type: ignore[return-value]


class Worklist(RuleBasedStateMachine):
    begin: Callable[[Path], str]
    """Makes an empty database, in a folder if it is a file; returns its URL."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="pylantir-model-"))
        url = type(self).begin(self.folder)
        # Two hosts' writers, which take sources from one another.
        self.writers = (open_for_writing(url, host="north"), open_for_writing(url, host="south"))
        self.engine = self.writers[0]
        self.now = BEGIN
        self.feeds = {name: Feed(self.engine, name, clock=self.tell_time) for name in PRIORITY}
        self.contents: dict[str, dict[str, dict[str, str]]] = {name: {} for name in PRIORITY}
        self.cycles: dict[str, Cycle] = {}
        self.heard: dict[Key, dict[str, str]] = {}
        self.pending: set[Key] = set()
        self.withdrawn: set[Key] = set()
        self.first_heard: dict[Key, str] = {}
        self.held: dict[Key, tuple[datetime, int]] = {}
        self.measures: dict[str, int] = {}
        self.refused_before: set[Key] = set()
        self.frozen: dict[int, dict[str, Any]] = {}
        self.uids: dict[int, tuple[str, str]] = {}

    def tell_time(self) -> datetime:
        """The time, which goes on a little with every look at the clock."""
        self.now += timedelta(milliseconds=1)
        return self.now

    def teardown(self) -> None:
        for writer in self.writers:
            writer.dispose()
        shutil.rmtree(self.folder)

    # What happens at the sources

    @initialize(data=st.data())
    def begin_with_something(self, data: st.DataObject) -> None:
        for name in PRIORITY:
            for number in range(2):
                self.edit(name, number, data.draw(PATIENTS), data.draw(FIELDS), data.draw(STRONG))

    @rule(name=SOURCES, number=st.integers(0, 3), patient=PATIENTS, fields=FIELDS, strong=STRONG)
    def edit(self, name: str, number: int, patient: str, fields: dict[str, str], strong: dict[str, str]) -> None:
        """A record is new, or says something else. The last source has no record IDs."""
        if name == PRIORITY[-1]:
            key, whole = record(patient=patient, **fields)
        else:
            key, whole = record(str(number), patient=patient, **fields, **strong)
        self.contents[name][key] = dict(whole)

    @rule(name=SOURCES, data=st.data())
    def delete(self, name: str, data: st.DataObject) -> None:
        if self.contents[name]:
            del self.contents[name][data.draw(st.sampled_from(sorted(self.contents[name])))]

    # What happens between the sources and the writer

    @rule(
        name=SOURCES,
        random=st.randoms(use_true_random=False),
        size=st.integers(1, 4),
        fails=st.booleans(),
        bad=st.booleans(),
    )
    def begin_cycle(self, name: str, random: Any, size: int, fails: bool, bad: bool) -> None:
        """A cycle begins, whatever became of the one before; it will fail, or have an unreadable record, perhaps."""
        if name in self.cycles:
            # Another worker, which has shown nothing yet.
            self.feeds[name].known = {}
        feed, shown = self.feeds[name], [
            (key, dict(fields)) for key, fields in self.contents[name].items()
        ]  # fmt: skip
        random.shuffle(shown)
        rejected = []
        if bad and shown and not fails:
            key, fields = shown.pop()
            rejected = [Rejection(key, "modality", "unreadable", fields["patient_id"])]
        frames = feed.batches(shown, size=size, rejected=rejected)
        end = feed.end(frames, error="the line broke" if fails else None)
        self.cycles[name] = Cycle(frames, end)

    @rule(name=SOURCES, random=st.randoms(use_true_random=False), size=st.integers(1, 4))
    def whole_cycle(self, name: str, random: Any, size: int) -> None:
        self.begin_cycle(name, random, size, fails=False, bad=False)
        self.go_on(name, 9)

    @rule(name=SOURCES, number=st.integers(0, 3), patient=PATIENTS, fields=FIELDS, strong=STRONG)
    def change_one(self, name: str, number: int, patient: str, fields: dict[str, str], strong: dict[str, str]) -> None:
        """One record changes at a quiet time, and the source is read."""
        self.edit(name, number, patient, fields, strong)
        self.begin_cycle(name, Random(0), 4, fails=False, bad=False)
        self.go_on(name, 9)

    @rule(name=SOURCES, count=st.integers(1, 5))
    def go_on(self, name: str, count: int) -> None:
        """Some more frames of a cycle arrive."""
        for _ in range(count):
            if name not in self.cycles:
                return
            cycle = self.cycles[name]
            if cycle.next < len(cycle.frames):
                self.feeds[name].apply(cycle.frames[cycle.next])
                self.hear(name, cycle, cycle.frames[cycle.next])
                self.forget_holds_of_records_that_changed_hands()
                cycle.next += 1
            else:
                self.finish(name, cycle)

    @rule(name=SOURCES, back=st.integers(1, 3))
    def repeat(self, name: str, back: int) -> None:
        """Frames that were committed come once more: their acknowledgement was lost."""
        if name in self.cycles:
            cycle = self.cycles[name]
            for frame in cycle.frames[max(0, cycle.next - back) : cycle.next]:
                self.feeds[name].ingest.apply_batch(frame)

    @precondition(lambda self: any(cycle.next and cycle.whole for cycle in self.cycles.values()))
    @rule(names=st.sets(SOURCES, min_size=1), number=st.integers(0, 1))
    def take_over(self, names: set[str], number: int) -> None:
        """Another writer takes sources over in mid-cycle: it knows what was committed, not what has been shown."""
        for name in sorted(names):
            feed = self.feeds[name]
            feed.engine = self.writers[number]
            feed.restart()
            if name not in self.cycles:
                continue
            cycle = self.cycles[name]
            cycle.forgotten, cycle.known = True, cycle.next
            if cycle.next or any(frame.repeated for frame in cycle.frames):
                cycle.whole, cycle.seen, cycle.spared = False, set(), set()

    @rule(name=SOURCES)
    def accept(self, name: str) -> None:
        """An operator lets go what is held just now, but for what the cycle under way has shown again."""
        shown = self.cycles[name].seen if name in self.cycles else set()
        held = {me for me in self.held if me[0] == name}
        said = self.feeds[name].ingest.accept_removal()
        assert ("nothing is held back" in said) == (held <= {(name, key) for key in shown}), said
        for me in held:
            del self.held[me]
            if me[1] not in shown:
                self.heard.pop(me, None)
                self.pending.discard(me)
                self.withdrawn.add(me)
        self.measures.pop(name, None)

    @rule(minutes=st.sampled_from([6, 16, 16, 24 * 60]))
    def wait(self, minutes: int) -> None:
        self.now += timedelta(minutes=minutes)

    # What happens at the scanner

    @precondition(lambda self: any(one[STATUS] in (SCHEDULED, IN_PROGRESS) for one in items(self.engine)))
    @rule(data=st.data())
    def scan(self, data: st.DataObject) -> None:
        running = [one for one in items(self.engine) if one[STATUS] in (SCHEDULED, IN_PROGRESS)]
        item = data.draw(st.sampled_from(running))
        later = [IN_PROGRESS] if item[STATUS] == SCHEDULED else [COMPLETED]
        report_from_scanner(self.engine, item["id"], data.draw(st.sampled_from(later)))
        (self.frozen[item["id"]],) = items(self.engine, id=item["id"])

    # What the model makes of it

    def hear(self, name: str, cycle: Cycle, frame: EntryBatch) -> None:
        unseen = {key for source, key in self.heard if source == name and key not in cycle.seen}
        again = (
            [] if cycle.forgotten else [one for passage in frame.repeated for one in self.feeds[name].shown[passage]]
        )
        for key, fields in [*again, *said_in(frame.records)]:
            me = name, key
            arrives = me not in self.heard and me not in self.pending
            if arrives and self.may_be_another(name, unseen, key, fields):
                self.pending.add(me)
            elif me not in self.pending:
                self.heard[me] = dict(fields)
            self.withdrawn.discard(me)
            self.first_heard.setdefault(me, frame.started_at)
            cycle.seen.add(key)
            unseen.discard(key)
        for one in frame.rejected:
            if (name, one.record_key) in self.heard.keys() | self.pending:
                cycle.seen.add(one.record_key)
            cycle.spared.add(str(one.patient_id))

    def may_be_another(self, name: str, unseen: set[str], key: str, fields: Mapping[str, str]) -> bool:
        refused = self.refused()
        candidates = [(name, one) for one in unseen if (name, one) in self.heard and (name, one) not in refused]
        return any(
            self.heard[one]["patient_id"] == fields["patient_id"]
            and set(signs(one[1], self.heard[one]).values()) & set(signs(key, fields).values())
            for one in candidates
        )

    def kind(self, me: Key) -> tuple[str, str | None]:
        fields = self.heard.get(me) or self.contents_of_key(me)
        return fields["patient_id"], fields.get("modality")

    def contents_of_key(self, me: Key) -> dict[str, str]:
        """What a pending record says, from the database: the model only knows that it is there."""
        (row,) = (one for one in rows(self.engine, source_entries) if (one["data_source"], one["record_key"]) == me)
        return {field: row[field] for field in RECORD_FIELDS if row[field]}

    def finish(self, name: str, cycle: Cycle) -> None:
        believed = cycle.whole and cycle.end.error is None
        vanished, moved, arrived = self.vanished(name, cycle) if believed else (set(), set(), {})
        nothing_accepted = not cycle.seen and bool(cycle.spared)
        missing = self.judge_missing(name, cycle, vanished, moved)
        summary = self.feeds[name].finish(cycle.end)
        assert summary.forgotten == (cycle.forgotten and any(frame.repeated for frame in cycle.frames[cycle.known :]))
        assert replace(self.feeds[name].ingest.finish_cycle(cycle.end), forgotten=summary.forgotten) == summary
        del self.cycles[name]
        run = runs(self.engine)[-1]
        assert run["fetched"] == sum(run[part] for part in ("inserted", "updated", "unchanged", "rejected")), run
        if not believed or nothing_accepted:
            return
        for me, fields in arrived.items():
            self.pending.discard(me)
            self.heard[me] = fields
        held = missing.held | (missing.newly if missing.is_suspicious(anything_new=run["inserted"] > 0) else set())
        assert (summary.held is not None) == bool(held)
        for me in vanished - held:
            self.heard.pop(me, None)
            self.pending.discard(me)
            self.withdrawn.add(me)
        self.measures.pop(name, None)
        if held:
            self.measures[name] = missing.of
        for me in [me for me in self.held if me[0] == name and me not in held]:
            del self.held[me]
        for me in held:
            since, times = self.held.get(me, (self.now, 0))
            self.held[me] = since, times + 1
        self.forget_holds_of_records_that_changed_hands()

    def judge_missing(self, name: str, cycle: Cycle, vanished: set[Key], moved: set[Key]) -> Missing:
        """What the guard has to say about the records that a whole snapshot does not show."""
        today = self.now.astimezone().strftime("%Y%m%d")
        staying = {me for me in vanished - moved if self.date_of(me) >= today}
        waiting = staying & self.held.keys()
        due = {me for me in waiting if self.held[me][1] >= 2 and self.now - self.held[me][0] >= timedelta(minutes=15)}
        refused, home = self.refused(), self.attributed()
        scheduled = {one["id"] for one in items(self.engine, scanner_touched=0, **{STATUS: SCHEDULED})}
        had = {
            me for me in self.heard.keys() - refused
            if me[0] == name and self.first_heard[me] < cycle.end.started_at and home[me] in scheduled
        }  # fmt: skip
        open_now = {me for me in had if self.date_of(me) >= today}
        kept = {home[me] for me in self.heard.keys() - refused - vanished}
        newly = staying - waiting
        return Missing(
            held=waiting - due,
            newly=newly,
            cancels=len({me for me in newly & had if home[me] not in kept}),
            of=self.measures.get(name, len(open_now)),
        )

    def date_of(self, me: Key) -> str:
        return (self.heard.get(me) or self.contents_of_key(me))["scheduled_start_date"]

    def forget_holds_of_records_that_changed_hands(self) -> None:
        """A held record that is refused meanwhile, or let in, is not held any more."""
        refused = self.refused()
        for me in [me for me in self.held if (me in refused) != (me in self.refused_before)]:
            del self.held[me]
        self.refused_before = refused

    def vanished(self, name: str, cycle: Cycle) -> tuple[set[Key], set[Key], dict[Key, dict[str, str]]]:
        """What a whole snapshot no longer shows, what of it has moved, and the records that need wait no longer."""
        known = {me for me in self.heard.keys() | self.pending if me[0] == name}
        gone = {me for me in known if me[1] not in cycle.seen and self.kind(me)[0] not in cycle.spared}
        arrived = {me: self.contents_of_key(me) for me in self.pending if me[0] == name and me[1] in cycle.seen}
        refused = self.refused()
        origins = {me: self.heard[me] for me in gone & self.heard.keys() if me not in refused}
        waiting = dict(arrived)
        moved = set()
        home, begun = (
            self.attributed(),
            {one["id"] for one in items(self.engine) if one[STATUS] in (IN_PROGRESS, COMPLETED)},
        )
        for rung in (*IDENTIFIERS, "step", "moved"):
            pairs: dict[object, tuple[list[Key], list[Key]]] = {}
            for side, records in enumerate((origins, waiting)):
                for me, fields in records.items():
                    if rung in signs(me[1], fields):
                        group = fields["patient_id"], signs(me[1], fields)[rung]
                        pairs.setdefault(group, ([], []))[side].append(me)
            for former, new in pairs.values():
                if rung == "moved" and len(new) == 1:
                    former[:] = [me for me in former if home[me] not in begun or near(origins[me], waiting[new[0]])]
                if len(former) == len(new) == 1 and one_person(origins[former[0]], waiting[new[0]], rung):
                    moved.add(former[0])
                    del origins[former[0]], waiting[new[0]]
        return gone, moved, arrived

    def refused(self) -> set[Key]:
        """An identifier belongs to the patient whom a scanner has started, else to the claim of highest priority."""
        refused = set()
        for name in IDENTIFIERS:
            for value in {fields[name] for fields in self.heard.values() if name in fields}:
                claimants = [me for me, fields in self.heard.items() if fields.get(name) == value]
                started = [one["patient_id"] for one in self.frozen.values() if one[name] == value]
                best = min(claimants, key=lambda me: (RANKS[me[0]], me[1]))
                owner = started[0] if started else self.heard[best]["patient_id"]
                refused |= {me for me in claimants if self.heard[me]["patient_id"] != owner}
        return refused

    def attributed(self) -> dict[Key, int | None]:
        return {(one["data_source"], one["record_key"]): one["item_id"] for one in rows(self.engine, source_entries)}

    # What must hold after every step

    @invariant()
    def all_is_well(self) -> None:
        self.records_are_in_the_state_that_follows_from_what_was_heard()
        self.the_worklist_is_what_the_live_records_amount_to()
        self.no_number_is_served_for_two_patients()
        self.what_a_scanner_has_reported_on_stays_as_it_was()
        self.study_uids_are_unique_and_do_not_change()
        self.the_audit_log_tells_how_it_came_about()

    def records_are_in_the_state_that_follows_from_what_was_heard(self) -> None:
        refused = self.refused()
        expected = {me: "refused" if me in refused else "live" for me in self.heard}
        expected |= dict.fromkeys(self.pending, "pending") | dict.fromkeys(self.withdrawn, "withdrawn")
        assert {
            (one["data_source"], one["record_key"]): one["state"] for one in rows(self.engine, source_entries)
        } == expected

    def the_worklist_is_what_the_live_records_amount_to(self) -> None:
        refused, home = self.refused(), self.attributed()
        stored = {one["id"]: one for one in items(self.engine)}
        members: dict[int, list[Key]] = {number: [] for number in stored}
        for me, fields in self.heard.items():
            if me not in refused:
                members[home[me]].append(me)  # no loss: a live record has an item …
                assert stored[home[me]]["patient_id"] == fields["patient_id"]
        for number, item in stored.items():
            mine = sorted(members[number], key=lambda me: (RANKS[me[0]], me[1]))
            assert len({me[0] for me in mine}) == len(mine)
            if number in self.frozen:
                continue
            assert (item[STATUS] == SCHEDULED) == bool(mine), item  # … which is served, and nothing else is
            said = [self.heard[me] for me in mine]
            assert not any(contradict(a, b) for a, b in combinations(said, 2))
            assert connected(said)
            for name in (
                ("scheduled_start_date", "scheduled_start_time", "protocol_name", "accession_number") if mine else ()
            ):
                assert item[name] == next((fields[name] for fields in said if name in fields), None)
            assert not mine or item["data_source"] == mine[0][0]
        for a, b in combinations([n for n in members if members[n] and n not in self.frozen], 2):  # no duplicate
            both = [(self.heard[x], self.heard[y]) for x in members[a] for y in members[b]]
            apart = {me[0] for me in members[a]}.isdisjoint(me[0] for me in members[b])
            may_join = apart and not any(contradict(x, y) for x, y in both)
            one_person = not any(differ(x, y, "patient_sex") for x, y in both)
            joined_by = [(x, y) for x, y in both if one_person or any(agree(x, y, name) for name in IDENTIFIERS)]
            assert not (may_join and any(must_be_one(x, y) for x, y in joined_by)), (members[a], members[b])

    def no_number_is_served_for_two_patients(self) -> None:
        patients: dict[tuple[str, str], str] = {}
        for one in items(self.engine):
            for name in IDENTIFIERS:
                if one[name] and one[STATUS] != CANCELED:
                    assert patients.setdefault((name, one[name]), one["patient_id"]) == one["patient_id"], one

    def what_a_scanner_has_reported_on_stays_as_it_was(self) -> None:
        for number, before in self.frozen.items():
            (now,) = items(self.engine, id=number)
            assert {name for name in now if now[name] != before[name]} <= FROZEN_BUT

    def study_uids_are_unique_and_do_not_change(self) -> None:
        generated = [one["generated_study_uid"] for one in items(self.engine)]
        assert len(generated) == len(set(generated))
        for one in items(self.engine):
            uid = one["study_instance_uid"]
            before, status = self.uids.get(one["id"], (one["generated_study_uid"], SCHEDULED))
            if uid != before:
                assert status in (SCHEDULED, CANCELED)
                assert uid in ("1.2.1", "1.2.2", one["generated_study_uid"])
            self.uids[one["id"]] = uid, one[STATUS]

    def the_audit_log_tells_how_it_came_about(self) -> None:
        check_audit(self.engine)


def connected(said: list[dict[str, str]]) -> bool:
    """Whether every record of an item is the same step as another one of it."""
    reached, waiting = said[:1], said[1:]
    while waiting:
        near = [one for one in waiting if any(same_step(one, other) for other in reached)]
        if not near:
            return False
        reached += near
        waiting = [one for one in waiting if one not in near]
    return True


@pytest.fixture
def begin(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Path], str]:
    """Give what makes an empty database: in SQLite unless the environment says otherwise."""
    if os.environ.get("PYLANTIR_MODEL_DATABASE") == "postgresql":
        url = str(request.getfixturevalue("postgresql_url"))
        names = ", ".join(table.name for table in metadata.sorted_tables)
        engine = open_for_writing(url)
        prepare_database(engine)

        def empty(_folder: Path) -> str:
            with engine.begin() as connection:
                connection.execute(text(f"TRUNCATE {names}"))
            engine.dispose()
            return url

        return empty
    engine = open_for_writing(f"sqlite:///{tmp_path / 'template.db'}")
    prepare_database(engine)
    engine.dispose()

    def copy(folder: Path) -> str:
        shutil.copy(tmp_path / "template.db", folder / "worklist.db")
        return f"sqlite:///{folder / 'worklist.db'}"

    return copy


@pytest.mark.timeout(3600 if "PYLANTIR_MODEL_EXAMPLES" in os.environ else 900)
def test_any_history_leaves_the_worklist_that_the_rules_ask_for(begin: Callable[[Path], str]) -> None:
    machine = type("Histories", (Worklist,), {"begin": staticmethod(begin)})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=int(os.environ.get("PYLANTIR_MODEL_EXAMPLES", "60")),
            stateful_step_count=int(os.environ.get("PYLANTIR_MODEL_STEPS", "40")),
            deadline=None,
            suppress_health_check=list(HealthCheck),
            # Shrinking a history takes longer than reading it.
            phases=(Phase.explicit, Phase.generate),
            report_multiple_bugs=False,
            # The short form tries the same histories every time: whoever changes something else must not meet new ones.
            derandomize="PYLANTIR_MODEL_EXAMPLES" not in os.environ,
            database=None,
        ),
    )
