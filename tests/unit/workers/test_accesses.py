"""What waits for the writer: the same answers together, bounded, in order, and what was lost is counted and told."""

from __future__ import annotations

import logging
import socket

import pytest

from pylantir.ipc.accesses import MAX_ITEMS, MAX_MOMENTS, MAX_RECORDS, write_accesses
from pylantir.ipc.frames import MAX_FRAME_BYTES, encode_body
from pylantir.settings import AccessSettings, SyslogServer
from workers.child import accesses
from workers.child.accesses import MAX_WAITING, AccessBuffer
from workers.child.channel import Channel

SYSLOG = SyslogServer(transport="udp", host="127.0.0.1", port=514)


def note(buffer: AccessBuffer, peer: str = "MR1", items: object = (1, 2), matches: int = 2) -> None:
    buffer.note("C-FIND", address="h", peer=peer, status="0000", matches=matches, item_ids=items)  # type: ignore[arg-type]


def test_the_same_answers_become_one_record_and_wake_the_sender_once() -> None:
    woken: list[bool] = []
    now = [10.0]
    buffer = AccessBuffer(AccessSettings(), clock=lambda: now[0])
    buffer.wake = lambda: woken.append(True)
    for _ in range(3):
        note(buffer)
        now[0] += 1
    note(buffer, items=[3])
    assert buffer.due_in_s is not None
    assert len(woken) == 1
    taken = buffer.take(at_once=True)
    assert taken is not None
    assert [(list(one.item_ids), list(one.moments)) for one in taken[0]] == [
        ([1, 2], [10_000_000, 11_000_000, 12_000_000]),
        ([3], [13_000_000]),
    ]
    assert buffer.is_empty
    assert buffer.due_in_s is None
    assert buffer.take(at_once=True) is None
    note(buffer)
    assert len(woken) == 2


def test_nothing_is_sent_before_it_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = AccessBuffer(AccessSettings())
    monkeypatch.setattr(accesses, "GATHER_S", 3600.0)
    note(buffer)
    assert buffer.take() is None
    assert buffer.take(at_once=True) is not None


def test_nothing_is_kept_where_nobody_wants_it() -> None:
    buffer = AccessBuffer(AccessSettings(log=False))
    note(buffer)
    buffer.alert("login", address="h", peer="p", text="t")
    assert buffer.is_empty
    buffer = AccessBuffer(AccessSettings(log=False, syslog=SYSLOG))
    note(buffer)
    buffer.alert("login", address="h", peer="p", text="t")
    taken = buffer.take(at_once=True)
    assert taken is not None
    assert (len(taken[0]), len(taken[1])) == (1, 1)


def test_while_the_writer_is_away_a_bounded_number_waits_and_the_rest_is_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    buffer = AccessBuffer(AccessSettings())
    for number in range(MAX_WAITING + 7):
        note(buffer, peer=f"MR{number}")
    assert buffer.lost == 7
    for _ in range(MAX_MOMENTS):
        note(buffer, peer="MR0")
    assert buffer.lost == 8
    ours, theirs = socket.socketpair()
    with ours, theirs, caplog.at_level(logging.WARNING):
        buffer.tell(Channel(ours))
        buffer.tell(Channel(ours))
        assert theirs.recv(65536).count(b'{"access_lost":8}') == 1
    assert [record.getMessage() for record in caplog.records] == [
        "8 answers are missing from the access log: the writer does not take them"
    ]
    peers = [one.peer for taken in iter(lambda: buffer.take(at_once=True), None) for one in taken[0]]
    assert peers == [f"MR{number}" for number in range(MAX_WAITING)]


def test_a_frame_stays_within_its_bounds_however_long_the_answers_are() -> None:
    buffer = AccessBuffer(AccessSettings())
    note(buffer, items=range(2**62, 2**62 + 250_000), matches=250_000)
    for number in range(MAX_RECORDS):
        note(buffer, peer=str(number), items=range(300))
    frames = list(iter(lambda: buffer.take(at_once=True), None))
    assert all(len(encode_body(write_accesses("x", *frame))) < MAX_FRAME_BYTES for frame in frames)
    parts = [one for frame in frames for one in frame[0] if one.matches > 300]
    assert [one.matches for one in parts] == [len(one.item_ids) for one in parts] == [MAX_ITEMS, MAX_ITEMS, 50_000]


def test_of_one_very_long_answer_as_much_is_kept_as_there_is_room_for() -> None:
    buffer = AccessBuffer(AccessSettings())
    note(buffer, items=range(1_500_000), matches=1_500_000)
    total = sum(len(one.item_ids) for frame in iter(lambda: buffer.take(at_once=True), None) for one in frame[0])
    assert (total, buffer.lost) == (1_000_000, 5)
