"""What a plugin's worker sends is checked before the writer works with it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylantir.entry import ATTRIBUTES_FIELD
from pylantir.errors import ProtocolError
from pylantir.ipc.batch import (
    read_acknowledgement,
    read_batch,
    read_result,
    write_acknowledgement,
    write_batch,
    write_batches,
    write_frame,
)
from pylantir.ipc.cycles import Acknowledgement, CycleResult, Rejection
from pylantir.ipc.frames import Frame
from pylantir.ipc.records import RecordColumns


def batch_with_attributes(attributes: str) -> Frame:
    values = {"patient_id": ["P1"], "scheduled_start_date": ["20300701"], ATTRIBUTES_FIELD: [attributes]}
    body = write_batch(snapshot=True, records=RecordColumns(["id:1"], values))
    frame: Frame = json.loads(write_frame("batch", cycle="c", seq=1, started_at="now", body=body))
    return frame


def test_further_attributes_are_taken_as_they_are() -> None:
    attributes = '{"PatientSize":["1.80"]}'
    assert read_batch(batch_with_attributes(attributes)).records.values[ATTRIBUTES_FIELD] == [attributes]


@pytest.mark.parametrize("attributes", ["[]", "nonsense", "1"])
def test_further_attributes_that_are_no_object_are_refused(attributes: str) -> None:
    with pytest.raises(ProtocolError, match="no JSON object"):
        read_batch(batch_with_attributes(attributes))


TEXTS = st.text(st.sampled_from('a\x00\x1f"\\é€😀\x7f\ud800'), min_size=1, max_size=60)
REJECTIONS = st.builds(Rejection, TEXTS, TEXTS, TEXTS, st.none() | TEXTS, st.booleans())


@given(
    st.lists(st.tuples(TEXTS, TEXTS, TEXTS), max_size=30), st.lists(REJECTIONS, max_size=30),
    st.lists(TEXTS, max_size=60), st.lists(st.integers(0, 2**64 - 1), max_size=60), st.integers(2500, 6000),
)  # fmt: skip
def test_no_body_is_longer_than_it_may_be_and_together_they_say_everything(
    rows: list[tuple[str, str, str]], rejected: list[Rejection], present: list[str], repeated: list[int], longest: int
) -> None:
    keys, patients, names = zip(*rows, strict=True) if rows else ((), (), ())
    days = ("20300701",) * len(rows)
    values = {"patient_id": patients, "scheduled_start_date": days, "patient_name": names} if rows else {}
    given_passages = [(7, len(rows))] if rows else []
    bodies = write_batches(
        snapshot=True, records=RecordColumns(keys, values), passages=given_passages, rejected=rejected,
        present=present, repeated=repeated, longest=longest,
    )  # fmt: skip
    read: dict[str, list[Any]] = {"keys": [], "rejected": [], "present": [], "repeated": []}
    for body, passages in bodies:
        assert len(body.encode("utf-8", "surrogatepass")) <= longest
        frame = json.loads(
            write_frame("batch", cycle="c", seq=1, started_at="now", body=body).decode("utf-8", "surrogatepass")
        )
        batch = read_batch(frame)
        assert sum(length for _, length in passages) == len(batch.records)
        for name, part in (("keys", batch.records.keys), ("rejected", batch.rejected), ("present", batch.present)):
            read[name] += part
        read["repeated"] += batch.repeated

    def as_stored(text: str) -> str:
        return text.encode("utf-8", "replace").decode("utf-8")

    assert list(map(as_stored, read["keys"])) == list(map(as_stored, keys))
    assert [one.reason for one in read["rejected"]] == [as_stored(one.reason) for one in rejected]
    assert read["present"] == [as_stored(key) for key in present]
    assert read["repeated"] == repeated


def test_a_record_that_is_too_long_by_itself_is_refused() -> None:
    records = RecordColumns(
        ["id:1", "id:2"],
        {"patient_id": ["P1", "P2"], "scheduled_start_date": ["20300701"] * 2, "patient_name": ["a", "b" * 9000]},
    )
    bodies = [json.loads("{" + body) for body, _ in write_batches(snapshot=True, records=records, longest=4000)]
    assert [body["keys"] for body in bodies if body["keys"]] == ["id:1"]
    assert [one[0] for body in bodies for one in body["rejected"]] == ["id:2"]


def test_an_acknowledgement_is_read_as_it_was_written() -> None:
    frame: Frame = {"kind": "batch", "cycle": "c", "seq": 3}
    written = write_acknowledgement(frame, unkept=[1, 2], failed="full")
    assert read_acknowledgement(json.loads(json.dumps(written))) == Acknowledgement("c", 3, [1, 2], "full")
    result = CycleResult(counts={"fetched": 1}, entries=2, complete=True, held={"of": 3})
    told = read_acknowledgement(json.loads(json.dumps(write_acknowledgement(frame, summary=result))))
    assert read_result(told.summary) == result


@pytest.mark.parametrize("change", [{"cycle": 1}, {"seq": "1"}, {"unkept": 5}, {"failed": 5}, {"summary": []}])
def test_what_is_no_acknowledgement_is_refused(change: Frame) -> None:
    with pytest.raises(ProtocolError):
        read_acknowledgement({"cycle": "c", "seq": 1, **change})
