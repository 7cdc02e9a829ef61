"""What a data set would cost to decode is counted on its bytes, in both transfer syntaxes, before anybody decodes it."""

from __future__ import annotations

import struct
import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pynetdicom.dsutils import encode

from pylantir.dicom.net.bounds import IDENTIFIER_BOUNDS, Bounds, excess_of, report_bounds

LIMIT_BYTES = 256 * 1024
MANY = Bounds(elements=10**9, values=10**9, nesting=64)
UNDEFINED = 0xFFFFFFFF


def implicit(tag: int, value: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(value) if length is None else length) + value


def explicit(tag: int, vr: bytes, value: bytes = b"") -> bytes:
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value


def long_explicit(tag: int, vr: bytes, value: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<HH2sHI", tag >> 16, tag & 0xFFFF, vr, 0, len(value) if length is None else length) + value


ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
SPS = 0x00400100
HOSTILE = {
    "backslashes": (implicit(0x00100020, b"\\" * (LIMIT_BYTES - 8)), False),
    "backslashes, explicit": (long_explicit(0x00100020, b"UC", b"\\" * (LIMIT_BYTES - 12)), True),
    "numbers": (implicit(0x001021C0, bytes(LIMIT_BYTES - 8)), False),
    "numbers, explicit": (explicit(0x001021C0, b"US", bytes(60_000)), True),
    "empty items": (implicit(SPS, implicit(ITEM) * (LIMIT_BYTES // 8 - 1)), False),
    "empty items, undefined length": (implicit(SPS, b"", UNDEFINED) + implicit(ITEM) * 30_000, False),
    "empty items, explicit": (long_explicit(SPS, b"SQ", implicit(ITEM) * 30_000), True),
    "items in an unknown element": (implicit(0x00111001, implicit(ITEM) * 30_000), False),
    "items in an unknown element, explicit": (long_explicit(0x00111001, b"UN", implicit(ITEM) * 30_000), True),
    "items of undefined length": (
        implicit(SPS, b"", UNDEFINED) + (implicit(ITEM, b"", UNDEFINED) + implicit(ITEM_END)) * 16_000,
        False,
    ),
    "empty keys": (b"".join(implicit(0x00110000 + n) for n in range(0x1000, 0x8F00)), False),
    "empty keys, explicit": (b"".join(explicit(0x00110000 + n, b"LO") for n in range(0x1000, 0x8F00)), True),
    "nested": ((implicit(SPS, b"", UNDEFINED) + implicit(ITEM, b"", UNDEFINED)) * 16_000, False),
    "nested, explicit": ((long_explicit(SPS, b"SQ", b"", UNDEFINED) + implicit(ITEM, b"", UNDEFINED)) * 12_000, True),
}


@pytest.mark.parametrize("size", range(8))
def test_an_identifier_that_ends_within_a_header_is_not_read_as_if_the_key_were_absent(size: int) -> None:
    name, patient = implicit(0x00100010), implicit(0x00100020, b"P1")
    expected = "an element that is cut short" if size else None
    for wrap in (lambda keys: keys, lambda keys: implicit(SPS, implicit(ITEM, keys))):
        assert excess_of(wrap(name + patient[:size]), IDENTIFIER_BOUNDS, explicit_vr=False) == expected
        assert excess_of(wrap(name + bytes(size)), IDENTIFIER_BOUNDS, explicit_vr=False) is None


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_identifier_is_told_at_the_cost_of_next_to_nothing(kind: str) -> None:
    data, is_explicit = HOSTILE[kind]
    tracemalloc.start()
    started = time.process_time()
    try:
        assert excess_of(data, IDENTIFIER_BOUNDS, explicit_vr=is_explicit)
        assert time.process_time() - started < 0.2
        assert tracemalloc.get_traced_memory()[1] < 2 * 1024 * 1024
    finally:
        tracemalloc.stop()


TEXT = st.text("AB9 ", max_size=8)
LEVELS = st.recursive(
    st.dictionaries(st.sampled_from(["PatientID", "Modality", "OtherPatientIDs"]), TEXT, max_size=3),
    lambda children: st.dictionaries(
        st.sampled_from(["ScheduledProcedureStepSequence", "ReferencedStudySequence"]),
        st.lists(children, max_size=3),
        max_size=2,
    ),
    max_leaves=12,
)


def dataset(level: dict[str, object], *, undefined: bool) -> Dataset:
    made = Dataset()
    for keyword, value in level.items():
        if isinstance(value, list):
            items = Sequence([dataset(one, undefined=undefined) for one in value])
            for one in items:
                one.is_undefined_length_sequence_item = undefined
            setattr(made, keyword, items)
            made[keyword].is_undefined_length = undefined
        else:
            setattr(made, keyword, value)
    return made


def count(level: dict[str, object]) -> int:
    return sum(1 + (sum(1 + count(one) for one in value) if isinstance(value, list) else 0) for value in level.values())


def depth(level: dict[str, object]) -> int:
    lists = [value for value in level.values() if isinstance(value, list)]
    return 1 + max((depth(one) for value in lists for one in value), default=0)


@given(level=LEVELS, is_explicit=st.booleans(), undefined=st.booleans())
def test_just_the_elements_and_items_of_a_data_set_are_counted(
    level: dict[str, object], is_explicit: bool, undefined: bool
) -> None:
    data = encode(dataset(level, undefined=undefined), not is_explicit, True)
    assert data is not None
    total = count(level)
    assert excess_of(data, Bounds(elements=total, values=9, nesting=64), explicit_vr=is_explicit) is None
    if total:
        less = Bounds(elements=total - 1, values=9, nesting=64)
        assert excess_of(data, less, explicit_vr=is_explicit) == f"more than {total - 1} elements and items"
    assert excess_of(data, Bounds(elements=total, values=9, nesting=depth(level)), explicit_vr=is_explicit) is None
    if depth(level) > 1:
        flat = Bounds(elements=total, values=9, nesting=depth(level) - 1)
        assert "nested deeper" in (excess_of(data, flat, explicit_vr=is_explicit) or "")


@pytest.mark.parametrize("values", [1, 2, 999, 1000, 1001])
def test_values_are_counted_as_the_decoder_splits_them(values: int) -> None:
    text = "\\".join("A" * values).encode()
    is_over = excess_of(implicit(0x00100020, text), IDENTIFIER_BOUNDS, explicit_vr=False) is not None
    assert is_over is (values > 1000)
    is_over = excess_of(explicit(0x001021C0, b"US", bytes(2 * values)), IDENTIFIER_BOUNDS, explicit_vr=True) is not None
    assert is_over is (values > 1000)


def test_a_long_text_has_one_value() -> None:
    assert excess_of(implicit(0x00104000, b"\\" * 5000), IDENTIFIER_BOUNDS, explicit_vr=False) is None


@given(data=st.binary(max_size=400), is_explicit=st.booleans())
def test_any_bytes_are_walked_over(data: bytes, is_explicit: bool) -> None:
    assert excess_of(data, MANY, explicit_vr=is_explicit) is None or data


def test_a_report_with_sixty_thousand_images_is_within_its_bounds_and_soon_counted() -> None:
    reference = implicit(0x00081150, b"1.2.840.10008.5.1.4.1.1.2") + implicit(0x00081155, b"1.2.3.4.5.6.7.8.9.10.11.12")
    data = implicit(0x00400340, b"", UNDEFINED) + implicit(ITEM, b"", UNDEFINED)
    data += implicit(0x00081140, implicit(ITEM, reference) * 60_000) + implicit(ITEM_END) + implicit(SEQUENCE_END)
    started = time.process_time()
    assert excess_of(data, report_bounds(len(data)), explicit_vr=False) is None
    assert time.process_time() - started < 2


def test_a_report_of_nothing_but_empty_elements_is_beyond_its_bounds() -> None:
    data = b"".join(implicit(0x00110000 + n % 60_000) for n in range(100_000))
    assert excess_of(data, report_bounds(len(data)), explicit_vr=False)
