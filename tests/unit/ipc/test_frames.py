"""Frames: any cut of the stream gives the same objects, and whatever is no frame is refused."""

from __future__ import annotations

import json
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylantir.errors import ProtocolError
from pylantir.ipc.frames import MAX_FRAME_BYTES, FrameReader, FrameSocket, encode_frame, frame_bytes

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)
objects = st.dictionaries(st.text(), values, max_size=4)


def announced(body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + body


@given(st.lists(objects, max_size=5), st.data())
def test_any_split_of_the_stream_gives_the_same_frames(sent: list[dict[str, object]], data: st.DataObject) -> None:
    stream = b"".join(encode_frame(value) for value in sent)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=8).map(sorted))
    reader = FrameReader()
    received = []
    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        received += reader.feed(stream[begin:end])
    assert received == sent


def test_a_lone_surrogate_survives_the_way() -> None:
    assert list(FrameReader().feed(encode_frame({"name": "a\ud800b"}))) == [{"name": "a\ud800b"}]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no json",
        b"[1, 2]",
        b'"text"',
        b"17",
        b"null",
        b"{} {}",
        b'{"a": \xff}',
        b'{"a": "\xff"}',
        b'{"a": ' + b"9" * 10_000 + b"}",
        pytest.param(b"[" * 100_000 + b"]" * 100_000, id="nested lists"),
        pytest.param(b'{"a":' * 100_000 + b"1" + b"}" * 100_000, id="nested objects"),
    ],
)
def test_what_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        list(FrameReader().feed(announced(body)))


@given(st.binary(max_size=200))
def test_garbage_gives_objects_or_a_protocol_error(garbage: bytes) -> None:
    try:
        frames = list(FrameReader().feed(garbage))
    except ProtocolError:
        return
    assert all(isinstance(frame, dict) for frame in frames)


def test_a_long_frame_is_refused_by_its_announcement() -> None:
    with pytest.raises(ProtocolError, match="exceeds the limit of 100"):
        list(FrameReader(limit=100).feed((101).to_bytes(4, "big")))
    with pytest.raises(ProtocolError, match="exceeds the limit"):
        frame_bytes(b" " * (MAX_FRAME_BYTES + 1))


def test_the_longest_frame_passes() -> None:
    body = json.dumps({"text": "x" * (MAX_FRAME_BYTES - len('{"text": ""}'))}).encode()
    assert len(body) == MAX_FRAME_BYTES
    assert len(list(FrameReader().feed(frame_bytes(body)))) == 1


def test_the_frame_before_a_bad_one_is_read() -> None:
    frames = FrameReader().feed(encode_frame({"a": 1}) + announced(b"bad"))
    assert next(frames) == {"a": 1}
    with pytest.raises(ProtocolError):
        next(frames)


def test_a_socket_never_waits_for_a_peer_that_does_not_read() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        frames = FrameSocket(ours)
        assert frames.receive() == []
        frames.send(encode_frame({"text": "x" * 4_000_000}))
        assert frames.wants_to_write
        assert frames.backlog_bytes < 4_000_000
        assert not frames.closed
    frames.flush()
    assert frames.closed
    assert not frames.wants_to_write
    frames.close()


def test_the_end_of_the_peer_is_noticed() -> None:
    ours, theirs = socket.socketpair()
    frames = FrameSocket(ours)
    theirs.sendall(encode_frame({"last": 1}))
    theirs.close()
    assert frames.receive() == [{"last": 1}]
    assert not frames.closed
    assert frames.receive() == []
    assert frames.closed
    frames.close()
