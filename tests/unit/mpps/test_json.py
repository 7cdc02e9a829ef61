"""MPPS data sets become JSON and come back the same; what cannot be read is named."""

from __future__ import annotations

import json
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset

from pylantir.dicom.mpps.json_model import attributes_of, dataset_of
from pylantir.errors import MppsRefused


def sent(dataset: Dataset) -> Dataset:
    """The data set as it comes out of the wire."""
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, True
    write_dataset(buffer, dataset)
    return decoded(buffer.getvalue())


def decoded(data: bytes) -> Dataset:
    return read_dataset(BytesIO(data), True, True, bytelength=len(data))


words = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="\\^="), max_size=20)


@given(words, words, st.lists(words, max_size=3), st.integers(0, 65535))
def test_text_numbers_and_sequences_come_back(name: str, description: str, protocols: list[str], count: int) -> None:
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientName = name.strip()
    dataset.PerformedProcedureStepDescription = description.strip()
    dataset.TotalNumberOfExposures = count
    dataset.EntranceDoseInmGy = "1.5"
    dataset.PerformedSeriesSequence = []
    for protocol in protocols:
        series = Dataset()
        series.ProtocolName = protocol.strip()
        dataset.PerformedSeriesSequence.append(series)
    attributes = attributes_of(sent(dataset))
    assert "00080005" not in attributes
    back = dataset_of(json.loads(json.dumps(attributes)))
    assert attributes_of(sent(back)) == attributes
    assert str(back.PatientName) == name.strip()
    assert back.TotalNumberOfExposures == count
    assert [str(series.ProtocolName or "") for series in back.PerformedSeriesSequence] == [p.strip() for p in protocols]


def nested(depth: int) -> Dataset:
    dataset = Dataset()
    if depth:
        dataset.PerformedSeriesSequence = [nested(depth - 1)]
    return dataset


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
@pytest.mark.parametrize(
    ("dataset", "tag"),
    [
        (sent(nested(40)), "00400340"),
        (decoded(b"\x10\x00\x20\x00\x10\x00\x00\x00P1"), "00100020"),
        (decoded(b"\x18\x00\x51\x11\x04\x00\x00\x00P1P1"), "00181151"),
    ],
    ids=["nested too deeply", "cut short", "a number that is none"],
)
def test_what_cannot_be_read_is_named_and_not_quoted(dataset: Dataset, tag: str) -> None:
    with pytest.raises(MppsRefused) as refused:
        attributes_of(dataset)
    assert (refused.value.status, refused.value.tags) == (0x0106, (tag,))
    assert "P1" not in str(refused.value)
