from __future__ import annotations

import itertools
import json
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylantir.data_sources.redcap.answers import (
    LARGEST_ANSWER_BYTES,
    LARGEST_LIST_BYTES,
    RedcapError,
    TooMuchError,
    TransientError,
    error_text,
    iter_rows,
    read_records,
    read_rows,
)
from pylantir.data_sources.redcap.ids import RecordIds, SeenIds

rows_of_text = st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=8), max_size=3), max_size=8)


def pieces(body: bytes, size: int) -> list[bytes]:
    return [body[start : start + size] for start in range(0, len(body), size)]


@given(rows_of_text, st.integers(1, 50), st.booleans(), st.sampled_from([None, 1]))
def test_rows_do_not_depend_on_how_the_body_arrives(
    rows: list[dict[str, str]], size: int, ascii_only: bool, indent: int | None
) -> None:
    body = json.dumps(rows, ensure_ascii=ascii_only, indent=indent).encode(errors="replace")
    assert list(iter_rows(pieces(body, size))) == read_rows([body]) == json.loads(body)


@given(rows_of_text.filter(bool), st.data())
def test_answer_that_is_cut_off_is_never_taken_for_whole(rows: list[dict[str, str]], data: st.DataObject) -> None:
    body = json.dumps(rows).encode()
    cut = body[: data.draw(st.integers(0, len(body) - 1))]
    for read in (read_rows, lambda chunks: list(iter_rows(chunks))):
        with pytest.raises(TransientError):
            read(pieces(cut, 7))


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", TransientError),
        (b" \n", TransientError),
        (b"<html>", TransientError),
        (b'"text"', TransientError),
        (b"[1]", TransientError),
        (b"[" * 100_000, TransientError),
        (b'ERROR: REDCap ran out of server memory. {"a"', TooMuchError),
        (b'{"error": "no"}', RedcapError),
    ],
)
def test_what_is_no_list_of_rows_is_an_error(body: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        read_rows([body])
    with pytest.raises(error):
        list(iter_rows([body]))


@pytest.mark.parametrize("value", ["true", "[1]", '{"a": 1}', "NaN", "Infinity"])
def test_a_record_has_plain_values(value: str) -> None:
    with pytest.raises(TransientError):
        read_records([b'[{"mrn": %s}]' % value.encode()])
    assert read_records([b'[{"mrn": "true", "age": 7, "note": null}]']) == [{"mrn": "true", "age": 7, "note": None}]


def test_an_answer_without_an_end_is_given_up() -> None:
    given = 0

    def endless(piece: bytes) -> Iterator[bytes]:
        nonlocal given
        while True:
            given += len(piece)
            yield piece

    row = b'{"record_id": "1"},' * 50_000
    for most, read in (
        (LARGEST_ANSWER_BYTES, lambda: read_rows(itertools.chain([b"["], endless(row)))),
        (LARGEST_ANSWER_BYTES, lambda: list(iter_rows(endless(row)))),
        (
            LARGEST_LIST_BYTES,
            lambda: sum(1 for _ in iter_rows(itertools.chain([b"[" + b" " * 99], endless(b" " * 9999)))),
        ),
    ):
        given = 0
        with pytest.raises(TooMuchError):
            read()
        assert given < most + 2 * len(row)


@pytest.mark.parametrize(
    ("body", "text"),
    [(b'{"error":"no"}', "no"), (b"<hash><error>no</error></hash>", "no"), (b"<p>no</p>", ""), (b"[]", "")],
)
def test_refusals_are_read_in_json_and_xml(body: bytes, text: str) -> None:
    assert error_text(body) == text


def test_record_ids_come_back_in_batches_and_rows_of_one_record_count_once() -> None:
    ids = RecordIds()
    for name in ("1", "1", "2", "é 3", "é 3", "4"):
        ids.add(name)
    assert ids.count == 4
    assert list(ids.batches(3)) == [["1", "2", "é 3"], ["4"]]


def test_seen_ids_are_remembered_and_others_hardly_ever_taken_for_them() -> None:
    seen = SeenIds()
    names = [f"{number}:mri#1" for number in range(20_000)]
    for name in names:
        seen.add(name)
    assert all(name in seen for name in names)
    assert sum(f"{number}:mri#2" in seen for number in range(1000)) < 5
