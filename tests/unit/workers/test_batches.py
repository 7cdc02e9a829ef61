"""Batches: whatever a plugin gives, together it becomes what it would become one by one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from worklist_store import said_in

from pylantir.data_sources.base import RECORD_LABEL, BadRecord
from pylantir.entry import MAPPING_TARGETS
from pylantir.errors import RecordRejected
from pylantir.ipc.batch import LONGEST_TEXT, read_batch, write_frame
from pylantir.ipc.cycles import EntryBatch
from pylantir.ipc.frames import MAX_FRAME_BYTES
from pylantir.mapping import EntryMapper
from pylantir.printing import make_redactor
from workers.source.batches import BATCH_RECORDS, FIRST_BATCH_RECORDS, Batches
from workers.source.passages import PassageNames
from workers.source.telling import RejectionLog

DEFAULTS = {"modality": "CT", "station_name": "ROOM 1"}
VALUES = {
    "patient_id": st.sampled_from(["P1", " P2 ", "", "NaN", "P\x1f3", 4, None]),
    "scheduled_start_date": st.sampled_from(["2030-01-01", "20300102", "01/02/2030", ""]),
    "scheduled_start_time": st.sampled_from(["08:00", "25:00", None]),
    "scheduled_start": st.sampled_from(["2030-01-01T08:30", "2030-01-02", "soon"]),
    "patient_name": st.sampled_from(["Doe^Jane", "Doe, Jane", "Ünal^Öz", ""]),
    "patient_sex": st.sampled_from(["male", "F", "?", "unknown"]),
    "patient_weight_kg": st.sampled_from(["70", 70.5, "heavy"]),
    "modality": st.sampled_from(["mri", "", None, "MR"]),
    "accession_number": st.sampled_from(["A1", "A2", "", 7, 1.0, True]),
    "scheduled_procedure_step_id": st.sampled_from(["S/1", "S|2"]),
    "source_record_id": st.sampled_from(["1", "2", "", "x" * 300]),
    "comment": st.sampled_from(["nothing of ours", ["a", "list"]]),
}


@pytest.fixture(autouse=True, scope="module")
def unhurried() -> Iterator[None]:
    """A batch is cut where it is full, however slow this machine is."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("workers.source.batches.BATCH_AGE_S", 3600.0)
        yield


@st.composite
def entries(draw: Any) -> Any:
    if draw(st.integers(0, 30)) == 0:
        return draw(st.sampled_from([BadRecord(record="row 3", field="", reason="ragged"), "no dictionary", None]))
    names = draw(st.lists(st.sampled_from(sorted(VALUES)), unique=True))
    return {name: draw(VALUES[name]) for name in {"patient_id": 0, "scheduled_start_date": 0, **dict.fromkeys(names)}}


def frames_of(given_entries: Iterable[Any], batches: Batches) -> list[EntryBatch]:
    head = '{"cycle": "c", "seq": 1, "started_at": "now", '
    return [read_batch(json.loads(head + body)) for body in batches.of_entries(given_entries)]


def records_of(frames: Iterable[EntryBatch]) -> list[tuple[str, dict[str, str]]]:
    return [record for frame in frames for record in said_in(frame.records)]


def in_any_order(records: Iterable[tuple[str, Mapping[str, str]]]) -> list[tuple[str, list[tuple[str, str]]]]:
    return sorted((key, sorted(fields.items())) for key, fields in records)


def one_by_one(given_entries: Iterable[Any]) -> tuple[list[tuple[str, Mapping[str, str]]], list[str]]:
    """The slow and obvious way."""
    mapper, good, bad = EntryMapper(DEFAULTS), [], []
    for entry in given_entries:
        if not isinstance(entry, Mapping):
            bad.append(entry.reason if isinstance(entry, BadRecord) else "instead of a dictionary")
            continue
        try:
            mapped = mapper.to_entry(entry)
        except RecordRejected as rejected:
            bad.append(rejected.reason)
        else:
            good.append((mapped.record_key, mapped.fields))
    return good, bad


@given(st.lists(entries(), max_size=40))
def test_records_together_become_what_each_becomes_by_itself(given_entries: list[Any]) -> None:
    frames = frames_of(given_entries, Batches(EntryMapper(DEFAULTS), RejectionLog(), snapshot=True))
    good, bad = one_by_one(given_entries)
    assert records_of(frames) == [(key, dict(fields)) for key, fields in good]
    reasons = [rejection.reason for frame in frames for rejection in frame.rejected]
    assert len(reasons) == len(bad)
    assert sorted(reason for reason in reasons if "dictionary" not in reason) == sorted(
        reason for reason in bad if "dictionary" not in reason
    )


@given(st.lists(entries(), max_size=40), st.lists(st.integers(0, 39), max_size=3))
def test_what_was_shown_before_is_named_and_the_rest_is_sent(given_entries: list[Any], edited: list[int]) -> None:
    mapper, first = EntryMapper(DEFAULTS), Batches(EntryMapper(DEFAULTS), RejectionLog(), snapshot=True)
    meanings: dict[int, list[tuple[str, dict[str, str]]]] = {}
    for frame in frames_of(given_entries, first):
        records = iter(records_of([frame]))
        for name, length in frame.passages:
            passage = [next(records) for _ in range(length)]
            if name is not None:
                meanings[name] = passage
    for place in edited:
        if place < len(given_entries) and isinstance(given_entries[place], dict):
            given_entries[place] = {**given_entries[place], "patient_name": "Other^Name"}
    second = Batches(mapper, RejectionLog(), snapshot=True, known=first.shown.without(()))
    frames = frames_of(given_entries, second)
    again = [record for frame in frames for name in frame.repeated for record in meanings[name]]
    good, bad = one_by_one(given_entries)
    assert in_any_order([*again, *records_of(frames)]) == in_any_order(good)
    assert sum(len(frame.rejected) for frame in frames) == len(bad)


def rows(count: int) -> list[dict[str, str]]:
    return [
        {"patient_id": f"P{n}", "scheduled_start_date": "2030-01-01", "source_record_id": str(n)} for n in range(count)
    ]


def test_a_passage_with_a_rejected_record_is_sent_every_time() -> None:
    bad = [*rows(40), {"patient_id": "P\n1", "scheduled_start_date": "never", "source_record_id": "x"}]
    first = Batches(EntryMapper(), RejectionLog(), snapshot=True)
    frames_of(bad, first)
    again = frames_of(bad, Batches(EntryMapper(), RejectionLog(), snapshot=True, known=first.shown.without(())))
    assert [len(frame.rejected) for frame in again] == [1]


def test_the_same_passage_twice_in_a_file_is_sent_the_second_time() -> None:
    first = Batches(EntryMapper(), RejectionLog(), snapshot=True)
    frames_of(rows(100), first)
    frames = frames_of(
        [*rows(100), *rows(100)], Batches(EntryMapper(), RejectionLog(), snapshot=True, known=first.shown.without(()))
    )
    assert sum(len(frame.repeated) for frame in frames) == len(first.shown)
    assert len(records_of(frames)) >= 80


def test_an_incremental_source_names_nothing() -> None:
    batches = Batches(EntryMapper(), RejectionLog(), snapshot=False)
    frames_of(rows(50), batches)
    assert len(batches.shown) == 0


def test_a_batch_is_bounded_in_records() -> None:
    for first, bound in ((True, FIRST_BATCH_RECORDS), (False, BATCH_RECORDS)):
        frames = frames_of(rows(3 * bound), Batches(EntryMapper(), RejectionLog(), snapshot=True, first=first))
        assert len(records_of(frames)) == 3 * bound
        assert BATCH_RECORDS <= len(frames[0].records) < BATCH_RECORDS + 64
        assert all(bound <= len(frame.records) < bound + 64 for frame in frames[1:-1])


def test_targets_of_the_test_are_those_of_the_program() -> None:
    assert set(VALUES) - {"comment"} <= MAPPING_TARGETS
    assert PassageNames().key != PassageNames().key


def test_warnings_are_counted_again_though_their_records_are_not_sent_again() -> None:
    given = [
        {"patient_id": f"P{n}", "scheduled_start_date": "2030-01-01", "patient_sex": "?" if n % 10 == 0 else "F"}
        for n in range(1000)
    ]
    mapper = EntryMapper()
    first = Batches(mapper, RejectionLog(), snapshot=True)
    frames_of(given, first)
    assert sum(first.warned.values()) == 100
    again = Batches(mapper, RejectionLog(), snapshot=True, known=first.shown.without(()))
    frames = frames_of(given, again)
    assert again.warned == first.warned
    assert sum(len(frame.records) for frame in frames) == 0
    third = Batches(mapper, RejectionLog(), snapshot=True, known=again.shown.without(()))
    frames_of([{**one, "patient_sex": "F"} for one in given], third)
    assert not third.warned


def test_a_record_that_is_refused_warns_of_nothing_else() -> None:
    given = [{"patient_id": "P1", "scheduled_start_date": "soon", "patient_sex": "?"}]
    batches = Batches(EntryMapper(), RejectionLog(), snapshot=True)
    assert [len(frame.rejected) for frame in frames_of(given, batches)] == [1]
    assert not batches.warned


def test_a_rejection_shows_no_secret_and_no_part_of_one(caplog: pytest.LogCaptureFixture) -> None:
    secret = "s3cret token"
    bad = [
        BadRecord(record="row 1", field="", reason=f"https://x/?t=s3cret%20token refused {secret!r}"),
        BadRecord(record="row 2", field="", reason="x" * (LONGEST_TEXT - 4) + secret),
        BadRecord(record=secret, field=secret, reason="torn"),
    ]
    batches = Batches(EntryMapper(), RejectionLog(), snapshot=True, strike_out=make_redactor([secret]))
    (frame,) = frames_of(bad, batches)
    said = [(one.record_key, one.field, one.reason) for one in frame.rejected]
    assert said == [
        ("row 1", "", "https://x/?t=*** refused '***'"),
        ("row 2", "", "x" * (LONGEST_TEXT - 4) + "***"),
        ("***", "***", "torn"),
    ]
    assert "s3cr" not in caplog.text


def test_very_many_long_rejections_fit_into_frames() -> None:
    text = "\x00" * 2000
    bad = [BadRecord(record=f"row {number} {text}", field=text, reason=text) for number in range(4000)]
    rejected = 0
    for body in Batches(EntryMapper(), RejectionLog(), snapshot=True).of_entries(bad):
        frame = write_frame("batch", cycle="c" * 16, seq=10**9, started_at="now" * 10, body=body)
        assert len(frame) <= MAX_FRAME_BYTES
        rejected += len(read_batch(json.loads(frame)).rejected)
    assert rejected == 4000


def test_values_of_any_length_fit_into_frames() -> None:
    huge = [
        {"patient_id": f"P{number}", "scheduled_start_date": "2030-01-01", "patient_name": ["x" * 10**6] * 3}
        for number in range(20)
    ]
    for body in Batches(EntryMapper(), RejectionLog(), snapshot=True).of_entries([*huge, *rows(10)]):
        assert len(write_frame("batch", cycle="c", seq=1, started_at="now", body=body)) <= MAX_FRAME_BYTES


class Unreadable:
    """What no text can be made of."""

    def __str__(self) -> str:
        raise ValueError("Doe")

    __repr__ = __str__


@pytest.mark.parametrize(
    "changes",
    [
        {"patient_name": 10**5000},
        {"patient_name": [[Unreadable()]]},
        {"source_record_id": Unreadable()},
        {"patient_name": {"a": Unreadable()}},
        {RECORD_LABEL: Unreadable()},
        {Unreadable(): 1},
    ],
)
def test_a_value_that_no_text_can_be_made_of_refuses_its_own_record_only(changes: Mapping[Any, object]) -> None:
    plain = {"scheduled_start_date": "2030-01-01", "patient_id": "P1"}
    given_entries = [plain, plain | {"patient_id": "P2"} | changes, plain | {"patient_id": "P3"}]
    frames = frames_of(given_entries, Batches(EntryMapper(), RejectionLog(), snapshot=True))
    assert [fields["patient_id"] for _, fields in records_of(frames)] == ["P1", "P3"]
    (refused,) = [rejection for frame in frames for rejection in frame.rejected]
    assert (refused.reason, refused.unreadable) == ("a value of the record cannot be read: ValueError", True)


@pytest.mark.parametrize("trusts_plugin", [True, False])
def test_the_log_says_where_a_refused_record_stands_and_not_who_it_is(
    caplog: pytest.LogCaptureFixture, trusts_plugin: bool
) -> None:
    no_date = {"patient_id": "ZQ-77", "scheduled_start_date": "soon"}
    refused = [
        {**no_date, "source_record_id": "ZQ-77", RECORD_LABEL: "row 2"},
        {**no_date, "source_record_id": "ZQ-77", RECORD_LABEL: "record ZQ-77"},
        {**no_date, "source_record_id": "7701", RECORD_LABEL: "record 7701"},
        {**no_date, "source_record_id": "ZQ-78"},
        {**no_date, "source_record_id": "ZQ-79", RECORD_LABEL: "ZQ-77.json"},
    ]
    log = RejectionLog(trusts_plugin=trusts_plugin)
    with caplog.at_level("WARNING"):
        frames_of(refused, Batches(EntryMapper(DEFAULTS), log, snapshot=True))
    assert len(caplog.messages) == len(refused)
    assert all("scheduled_start_date" in line for line in caplog.messages)
    places = [line.partition(" rejected: ")[0] for line in caplog.messages]
    assert places == ["row 2" if trusts_plugin else "a record", "a record", "a record", "record 4", "a record"]


def test_what_a_foreign_plugin_says_of_a_record_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    refused = [BadRecord(record="Doe.json", field="x", reason="Doe^Jane has no date")]
    with caplog.at_level("INFO"):
        frames_of(refused, Batches(EntryMapper(), RejectionLog(trusts_plugin=False), snapshot=True))
    assert "Doe" not in caplog.text
    with caplog.at_level("INFO"):
        frames_of(refused, Batches(EntryMapper(), RejectionLog(), snapshot=True))
    assert "Doe^Jane has no date" in caplog.text
