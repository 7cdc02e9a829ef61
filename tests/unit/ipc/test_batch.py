"""What a plugin's worker sends is checked before the writer works with it."""

from __future__ import annotations

import json

import pytest

from pylantir.entry import ATTRIBUTES_FIELD
from pylantir.errors import ProtocolError
from pylantir.ipc.batch import read_batch, write_batch, write_frame
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
