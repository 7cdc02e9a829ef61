"""Any history of bookings, scans, commands and configurations; what must hold after each step, whatever happened.

`test_worklist_model` predicts the exact state from the rules. This model predicts nothing: it looks at the database and
asks whether a scanner may be shown that. So it can try much more: issuers, exams broken off, operators' commands, sources
that are disabled or renamed. `make model` tries many histories; `PYLANTIR_MODEL_DATABASE=postgresql` tries them there.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import Engine, text
from worklist_store import Feed, apply_rules, check_audit, items, quarantine, record, rows

from pylantir.entry import CANCELED, COMPLETED, DISCONTINUED, IN_PROGRESS, RECORD_FIELDS, SCHEDULED, STATUSES
from pylantir.errors import CommandRefused
from pylantir.mpps.model import MppsRequest
from pylantir.store.change.commands import carry_out
from pylantir.store.change.reports import record_report
from pylantir.store.change.retention import purge_items
from pylantir.store.change.rules import restore_items
from pylantir.store.decide.claims import STATUS, Rules
from pylantir.store.schema.engine import open_for_writing
from pylantir.store.schema.tables import conflicts, metadata, source_entries
from pylantir.store.schema.upgrade import prepare_database

ORDER = ("ris", "redcap", "csv")
"""The sources by priority; the last one gives no record IDs."""
RENAMED = {"csv": "clinic"}
BEGIN = datetime(2030, 6, 30, 8, tzinfo=UTC)
OPEN = (SCHEDULED, IN_PROGRESS, DISCONTINUED)
IDENTITY = ("patient_name", "patient_birth_date", "patient_sex")


def one_of(*values: str) -> st.SearchStrategy[str]:
    return st.sampled_from(values)


PEOPLE = st.fixed_dictionaries(
    {},
    optional={
        "patient_name": one_of("Doe^Jane", "Doe^Jane", "Smith^Bob"),
        "patient_birth_date": one_of("19800517", "19800517", "19800101", "19900505"),
        "patient_sex": one_of("F", "M"),
        "issuer_of_patient_id": one_of("A", "A", "B"),
    },
)
EXAMS = st.fixed_dictionaries(
    {
        "scheduled_start_date": one_of("20300701", "20300701", "20300702"),
        "scheduled_start_time": one_of("", "080000", "090000", "150000"),
    },
    optional={
        "modality": one_of("MR", "CT"),
        "protocol_name": one_of("HEAD", "KNEE"),
        "scheduled_station_aetitle": one_of("MR1", "MR2"),
        "accession_number": one_of("N1", "N2", "N3"),
        "study_instance_uid": one_of("1.2.1", "1.2.2"),
    },
)
BOOKINGS = st.tuples(st.integers(0, 3), one_of("P1", "P2", "P3"), PEOPLE, EXAMS)
_number = itertools.count(1)


def booked(source: str, booking: tuple[int, str, dict[str, str], dict[str, str]]) -> tuple[str, dict[str, str]]:
    """A record as a source gives it."""
    number, patient, person, exam = booking
    key, fields = record(None if source == ORDER[-1] else f"{number}", patient, **{**person, **exam})
    return key, dict(fields)


def element(vr: str, *values: object) -> dict[str, Any]:
    return {"vr": vr, "Value": list(values)} if values else {"vr": vr}


class Events(RuleBasedStateMachine):
    engine: Engine

    def __init__(self) -> None:
        super().__init__()
        empty(self.engine)
        self.now = BEGIN
        self.enabled = {name: name for name in ORDER}
        self.contents: dict[str, dict[str, dict[str, str]]] = {name: {} for name in ORDER}
        self.deleted: dict[tuple[str, str], dict[str, str]] = {}
        self.shown: dict[str, dict[str, dict[str, str]]] = {}
        self.frozen: dict[int, dict[str, Any]] = {}
        self.performed: dict[int, tuple[str, str, dict[str, str]]] = {}
        self.just_read: str | None = None
        self.configure()

    def clock(self) -> datetime:
        self.now += timedelta(milliseconds=1)
        return self.now

    def configure(self) -> None:
        """The writer starts with the present configuration."""
        names = [self.enabled[name] for name in ORDER if name in self.enabled]
        self.rules = Rules(ranks={name: rank for rank, name in enumerate(names)})
        apply_rules(self.engine, self.rules, clock=self.clock)
        restore_items(self.engine, self.rules, clock=self.clock)
        self.feeds = {name: Feed(self.engine, name, self.rules, clock=self.clock) for name in names}

    # What happens

    @initialize(bookings=st.lists(st.tuples(one_of(*ORDER), BOOKINGS), min_size=3, max_size=8))
    def begin(self, bookings: list[tuple[str, Any]]) -> None:
        for source, booking in bookings:
            self.edit(source, booking)
        for source in ORDER:
            self.sync(source, size=4)

    @rule(source=one_of(*ORDER), booking=BOOKINGS)
    def edit(self, source: str, booking: Any) -> None:
        key, fields = booked(source, booking)
        self.contents[source][key] = fields

    @rule(source=one_of(*ORDER), data=st.data())
    def delete(self, source: str, data: st.DataObject) -> None:
        if self.contents[source]:
            key = data.draw(st.sampled_from(sorted(self.contents[source])))
            self.deleted[source, key] = self.contents[source].pop(key)

    @rule(data=st.data())
    def bring_back(self, data: st.DataObject) -> None:
        """A source gives a record again as it was: somebody had deleted it by mistake, or an export was not whole."""
        if self.deleted:
            source, key = data.draw(st.sampled_from(sorted(self.deleted)))
            self.contents[source][key] = self.deleted.pop((source, key))
            self.sync(source, size=4)

    @rule(source=one_of(*ORDER), data=st.data(), patient=one_of("P1", "P2", "P3"))
    def correct_patient_id(self, source: str, data: st.DataObject, patient: str) -> None:
        if self.contents[source]:
            key = data.draw(st.sampled_from(sorted(self.contents[source])))
            fields = self.contents[source].pop(key)
            rest = {name: value for name, value in fields.items() if name not in ("patient_id", "source_record_id")}
            key, changed = record(fields.get("source_record_id"), patient, **rest)
            self.contents[source][key] = dict(changed)

    @rule(source=one_of(*ORDER[:-1]), size=st.sampled_from([1, 4]))
    def shift_record_ids(self, source: str, size: int) -> None:
        """A source's record IDs are the numbers of the rows of a list, and the rows change places."""
        rows_of = list(self.contents[source].items())
        numbers = [fields["source_record_id"] for _, fields in rows_of]
        self.contents[source] = {}
        for number, (_, fields) in zip(numbers[1:] + numbers[:1], rows_of, strict=True):
            rest = {name: value for name, value in fields.items() if name not in ("patient_id", "source_record_id")}
            key, shifted = record(number, fields["patient_id"], **rest)
            self.contents[source][key] = dict(shifted)
        self.sync(source, size=size)

    @rule(source=one_of(*ORDER), size=st.sampled_from([1, 4]))
    def sync(self, source: str, size: int) -> None:
        if source in self.enabled:
            name = self.enabled[source]
            shown = list(self.contents[source].items())
            summary = self.feeds[name].sync(*shown, size=size)
            assert summary.error is None
            self.shown[name] = dict(shown)
            self.just_read = name

    @rule(source=one_of(*ORDER), booking=BOOKINGS)
    def change_one(self, source: str, booking: Any) -> None:
        self.edit(source, booking)
        self.sync(source, size=4)

    @rule(source=one_of(*ORDER))
    def accept(self, source: str) -> None:
        if source in self.enabled:
            self.feeds[self.enabled[source]].ingest.accept_removal()

    @rule(minutes=st.sampled_from([16, 16, 24 * 60, 100 * 24 * 60]))
    def wait(self, minutes: int) -> None:
        self.now += timedelta(minutes=minutes)

    @rule(data=st.data(), status=st.sampled_from([IN_PROGRESS, COMPLETED, COMPLETED, DISCONTINUED]))
    def scan(self, data: st.DataObject, status: str) -> None:
        listed = [one for one in items(self.engine) if one[STATUS] in OPEN]
        if not listed:
            return
        item = data.draw(st.sampled_from(listed))
        uid = f"2.25.{next(_number)}"
        step = {
            "0020000D": element("UI", item["study_instance_uid"]),
            "00400009": element("SH", item["scheduled_procedure_step_id"]),
        }
        begun = {
            "00400270": element("SQ", step), "00100020": element("LO", item["patient_id"]),
            "00400253": element("SH", "1"), "00400241": element("AE", "MR1"), "00080060": element("CS", "MR"),
            "00400244": element("DA", item["scheduled_start_date"]), "00400245": element("TM", "1000"),
            "00400252": element("CS", "IN PROGRESS"),
        }  # fmt: skip
        self.report("create", uid, begun)
        if status != IN_PROGRESS:
            series = {"0020000E": element("UI", "1.9"), "00181030": element("LO", "x")}
            self.report("set", uid, {
                "00400252": element("CS", status), "00400250": element("DA", item["scheduled_start_date"]),
                "00400251": element("TM", "1100"), "00400340": element("SQ", series),
            })  # fmt: skip
        for one in items(self.engine):
            if one["scanner_touched"] and one[STATUS] in (IN_PROGRESS, COMPLETED):
                self.frozen[one["id"]] = one
            else:
                self.frozen.pop(one["id"], None)
        if status == COMPLETED and item["id"] in self.frozen:
            self.remember_what_was_performed(item["id"])

    def remember_what_was_performed(self, number: int) -> None:
        for one in rows(self.engine, source_entries):
            if one["item_id"] == number and one["state"] == "live":
                said = {name: one[name] for name in RECORD_FIELDS if one[name]}
                self.performed[one["id"]] = one["data_source"], one["record_key"], said

    def report(self, operation: Any, uid: str, attributes: dict[str, Any]) -> None:
        request = MppsRequest(
            request_id=f"{next(_number)}",
            operation=operation,
            sop_instance_uid=uid,
            scanner="MR1",
            attributes=attributes,
        )
        answer = record_report(
            self.engine, request, self.rules, strict=False, now=self.clock(), today=self.now.strftime("%Y%m%d")
        )
        assert answer.status == 0

    # What people do

    @rule(data=st.data(), status=st.sampled_from(STATUSES))
    def set_status(self, data: st.DataObject, status: str) -> None:
        everything = items(self.engine)
        if not everything:
            return
        number = data.draw(st.sampled_from([one["id"] for one in everything]))
        command = {"command": "set-status", "item": number, "status": status, "reason": "x"}
        before = everything
        # Where they are now: a record may leave an item that is open again.
        its_own = [one for one in self.performed if self.home(one) == number]
        try:
            carry_out(self.engine, self.rules, command, clock=self.clock)
        except CommandRefused:
            assert items(self.engine) == before
            return
        (now,) = items(self.engine, id=number)
        assert now[STATUS] == status
        self.frozen.pop(number, None)
        for one in its_own:
            del self.performed[one]
        if status in (IN_PROGRESS, COMPLETED):
            self.frozen[number] = now
        if status == COMPLETED:
            self.remember_what_was_performed(number)

    def home(self, record_id: int) -> int | None:
        return next((one["item_id"] for one in rows(self.engine, source_entries) if one["id"] == record_id), None)

    @rule(source=one_of(*ORDER))
    def disable_or_enable(self, source: str) -> None:
        if source in self.enabled:
            del self.enabled[source]
        else:
            self.enabled[source] = source
        self.configure()

    @rule()
    def rename(self) -> None:
        for source, name in RENAMED.items():
            if source in self.enabled:
                self.enabled[source] = name if self.enabled[source] == source else source
        self.configure()

    @rule(source=one_of(*ORDER, *RENAMED.values()))
    def forget(self, source: str) -> None:
        try:
            carry_out(self.engine, self.rules, {"command": "forget", "name": source}, clock=self.clock)
        except CommandRefused:
            return
        self.shown.pop(source, None)

    @rule(day=one_of("20300702", "20310101"))
    def purge(self, day: str) -> None:
        for _ in purge_items(self.engine, day, self.rules, clock=self.clock):
            pass
        left = {one["id"] for one in items(self.engine)}
        self.frozen = {number: one for number, one in self.frozen.items() if number in left}

    # What must hold

    @invariant()
    def all_is_well(self) -> None:
        self.everything = items(self.engine)
        self.records = rows(self.engine, source_entries)
        self.no_number_is_served_for_two_patients()
        self.what_is_served_is_given_and_what_is_given_is_served()
        self.whoever_waits_is_told_why()
        self.what_is_begun_stays()
        self.what_was_done_is_not_listed_again()
        self.identity_is_from_one_mouth()
        self.what_is_told_is_so()
        self.just_read = None

    def teardown(self) -> None:
        """The audit log tells the whole history, so it is followed once, from the end."""
        check_audit(self.engine)

    def no_number_is_served_for_two_patients(self) -> None:
        for name, also in (("accession_number", ()), ("study_instance_uid", (COMPLETED,))):
            shown = [one for one in self.everything if one[name] and one[STATUS] in (*OPEN, *also)]
            for a, b in itertools.combinations(shown, 2):
                assert a[name] != b[name] or not are_two(a, b), (name, a, b)

    def what_is_served_is_given_and_what_is_given_is_served(self) -> None:
        by_id = {one["id"]: one for one in self.everything}
        live = [one for one in self.records if one["state"] == "live"]
        given = {one["item_id"] for one in live}
        for item in self.everything:
            if item[STATUS] == SCHEDULED:
                assert item["id"] in given, item
        told = {number for row in rows(self.engine, conflicts) for number in json.loads(row["items"])}
        for one in live:
            item = by_id.get(one["item_id"])
            if item is None or (item[STATUS] == CANCELED and not item["scanner_touched"]):
                assert one["data_source"] not in self.rules.ranks, (one, item)
            elif item[STATUS] in (IN_PROGRESS, COMPLETED) and one["data_source"] in self.rules.ranks:
                differs = any(one[name] and one[name] != item[name] for name in ("patient_id", "scheduled_start_date"))
                assert not differs or item["id"] in told, (one, item)
            elif item[STATUS] in (SCHEDULED, DISCONTINUED):
                assert one["patient_id"] == item["patient_id"] or one["data_source"] not in self.rules.ranks, (
                    one,
                    item,
                )

    def whoever_waits_is_told_why(self) -> None:
        refused = {(one["data_source"], one["record_key"]): one for one in self.records if one["state"] == "refused"}
        assert refused.keys() == quarantine(self.engine).keys()
        if self.just_read is None:
            return
        shown = self.shown[self.just_read]
        stored = {one["record_key"]: one for one in self.records if one["data_source"] == self.just_read}
        for key, fields in shown.items():
            assert stored[key]["state"] in ("live", "refused"), key
            assert {name: stored[key][name] for name in RECORD_FIELDS if stored[key][name]} == fields
        for (source, _), one in refused.items():
            if source == self.just_read:
                assert self.is_in_the_way(one), one

    def is_in_the_way(self, waiting: Mapping[str, Any]) -> bool:
        """Whether another patient's item or record has a number of a refused record.

        What the scanner has reported on does not change, but one of its records may name the issuer.
        """
        for name in ("accession_number", "study_instance_uid"):
            number = waiting[name]
            others = [one for one in [*self.everything, *self.records] if number and one[name] == number]
            touched = {one["id"] for one in others if one.get("scanner_touched") and not one["issuer_of_patient_id"]}
            others += [one for one in self.records if one["state"] == "live" and one["item_id"] in touched]
            if any(
                are_two(one, waiting) and one.get(STATUS) != CANCELED
                for one in others
                if one.get("state") != "withdrawn"
            ):
                return True
        return False

    def what_is_begun_stays(self) -> None:
        stored = {one["id"]: one for one in self.everything}
        for number, before in self.frozen.items():
            changed = {name for name in before if stored[number][name] != before[name]}
            assert changed <= {"former_study_uids", "updated_at", "source_record_id"}, (changed, before)

    def what_was_done_is_not_listed_again(self) -> None:
        stored = {one["id"]: one for one in self.records}
        by_id = {one["id"]: one for one in self.everything}
        for number, (source, key, said) in list(self.performed.items()):
            one = stored.get(number)
            now = {} if one is None else {name: one[name] for name in RECORD_FIELDS if one[name]}
            if one is None or (one["data_source"], one["record_key"]) != (source, key) or not is_same(said, now):
                del self.performed[number]  # another story
            elif one["state"] == "live":
                assert by_id[one["item_id"]][STATUS] in (COMPLETED, IN_PROGRESS), (one, by_id[one["item_id"]])

    def identity_is_from_one_mouth(self) -> None:
        for item in self.everything:
            claims = [one for one in self.records if one["state"] == "live" and one["item_id"] == item["id"]]
            if item[STATUS] != SCHEDULED or item["scanner_touched"] or len(claims) < 2:
                continue
            claims.sort(
                key=lambda one: (self.rules.ranks.get(one["data_source"], 9), one["data_source"], one["record_key"])
            )
            owner = claims[0]
            for name in IDENTITY:
                givers = [one for one in claims if one[name] and one[name] == item[name]]
                if not item[name] or (name == "patient_name" and item[name] == item["patient_id"]):
                    continue
                assert givers, (name, item, claims)
                if owner[name] and not (name == "patient_birth_date" and owner[name].endswith("0101")):
                    assert owner[name] == item[name], (name, item, owner)
                assert any(not contradict(owner, one) for one in givers), (name, item, claims)

    def what_is_told_is_so(self) -> None:
        """Each entry of `conflicts` is about records that still count, and about the items that they have."""
        live = {(one["data_source"], one["record_key"]): one for one in self.records if one["state"] == "live"}
        for row in rows(self.engine, conflicts):
            about, numbers = (
                [*zip(*(json.loads(row[name]) for name in ("sources", "records")), strict=True)],
                json.loads(row["items"]),
            )
            assert set(about) <= live.keys(), row
            assert {live[key]["item_id"] for key in about} <= set(numbers), row
            if row["other_patient_id"]:
                assert [live[key]["patient_id"] for key in about] == [row["other_patient_id"], row["patient_id"]], row


def are_two(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Whether two rows are about two patients: patient ID, or both issuers, differ."""
    issuers = a["issuer_of_patient_id"], b["issuer_of_patient_id"]
    return bool(a["patient_id"] != b["patient_id"] or (all(issuers) and issuers[0] != issuers[1]))


def is_same(done: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether a record says what it said when its exam was done; its patient ID may have been corrected since."""
    who = ("patient_name", "patient_birth_date")
    corrected = {"patient_id"} if all(done.get(name) for name in who) else set()
    return all(done.get(name) == now.get(name) for name in {*done, *now} - corrected)


def contradict(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Whether two records differ in name, birth date or sex; January 1st may be the year alone."""
    for name in IDENTITY:
        first, second = a[name], b[name]
        year_alone = name == "patient_birth_date" and first and second and first[:4] == second[:4]
        if first and second and first != second and not (year_alone and "0101" in (first[4:], second[4:])):
            return True
    return False


def empty(engine: Engine) -> None:
    """Make the database empty again, by the quickest way."""
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            names = ", ".join(table.name for table in metadata.sorted_tables)
            connection.execute(text(f"TRUNCATE {names}"))
            return
    path = Path(str(engine.url.database))
    engine.dispose()
    for side in ("-wal", "-shm"):
        path.with_name(path.name + side).unlink(missing_ok=True)
    shutil.copy(path.with_name("template.db"), path)


@pytest.fixture
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """A database of its own; SQLite unless the environment says otherwise."""
    if os.environ.get("PYLANTIR_MODEL_DATABASE") == "postgresql":
        opened = open_for_writing(request.getfixturevalue("postgresql_url"))
        prepare_database(opened)
    else:
        template = open_for_writing(f"sqlite:///{tmp_path / 'template.db'}")
        prepare_database(template)
        template.dispose()
        opened = open_for_writing(f"sqlite:///{tmp_path / 'worklist.db'}")
    yield opened
    opened.dispose()


def run_settings(default: int) -> settings:
    return settings(
        max_examples=int(os.environ.get("PYLANTIR_MODEL_EXAMPLES", str(default))),
        stateful_step_count=int(os.environ.get("PYLANTIR_MODEL_STEPS", "20")),
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.explicit, Phase.generate),
        report_multiple_bugs=False,
        print_blob=False,
        # The short form tries the same histories every time: whoever changes something else must not meet new ones.
        derandomize="PYLANTIR_MODEL_EXAMPLES" not in os.environ,
        database=None,
    )


@pytest.mark.timeout(36000 if "PYLANTIR_MODEL_EXAMPLES" in os.environ else 900)
def test_no_history_shows_a_wrong_patient_or_hides_a_right_one(engine: Engine) -> None:
    run_state_machine_as_test(type("AnyEvents", (Events,), {"engine": engine}), settings=run_settings(40))


def outcome(engine: Engine, facts: Mapping[str, Mapping[str, dict[str, str]]], order: list[tuple[str, str]]) -> Any:
    """Let the facts arrive in an order, and give what they amount to."""
    empty(engine)
    rules = Rules(ranks={name: rank for rank, name in enumerate(ORDER)})
    now = [BEGIN]

    def clock() -> datetime:
        now[0] += timedelta(milliseconds=1)
        return now[0]

    feeds = {name: Feed(engine, name, rules, clock=clock) for name in ORDER}
    arrived: dict[str, dict[str, dict[str, str]]] = {name: {} for name in ORDER}
    for source, key in order:
        arrived[source][key] = facts[source][key]
        feeds[source].sync(*arrived[source].items())
    for _ in range(2):
        for source in ORDER:
            feeds[source].sync(*arrived[source].items())
    members: dict[int, set[tuple[str, str]]] = {}
    refused = set()
    for one in rows(engine, source_entries):
        if one["state"] == "live":
            members.setdefault(one["item_id"], set()).add((one["data_source"], one["record_key"]))
        else:
            refused.add((one["data_source"], one["record_key"], one["state"]))
    shown = {}
    for item in items(engine):
        if item["id"] in members:
            uid = item["study_instance_uid"]
            fields = {name: item[name] for name in RECORD_FIELDS if not name.endswith("_id") or name == "patient_id"}
            fields["study_instance_uid"] = None if uid == item["generated_study_uid"] else uid
            shown[frozenset(members[item["id"]])] = fields
    return shown, refused


@pytest.mark.timeout(36000 if "PYLANTIR_MODEL_EXAMPLES" in os.environ else 900)
def test_the_order_in_which_the_same_facts_arrive_does_not_matter(engine: Engine) -> None:
    @settings(run_settings(40))
    @given(
        bookings=st.lists(st.tuples(one_of(*ORDER), BOOKINGS), min_size=2, max_size=7),
        random=st.randoms(use_true_random=False),
    )
    def try_two_orders(bookings: list[tuple[str, Any]], random: Any) -> None:
        facts: dict[str, dict[str, dict[str, str]]] = {name: {} for name in ORDER}
        for source, booking in bookings:
            key, fields = booked(source, booking)
            facts[source][key] = fields
        order = [(source, key) for source in ORDER for key in facts[source]]
        expected = outcome(engine, facts, order)
        random.shuffle(order)
        assert outcome(engine, facts, order) == expected

    try_two_orders()
