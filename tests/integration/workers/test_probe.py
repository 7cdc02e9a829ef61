"""The supervisor's C-ECHO: any answer is a sign of life, two silences are not, and nothing of it waits."""

from __future__ import annotations

import queue
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import wait

import pytest
from dicom_server import serving

from pylantir.dicom.net.association import Association
from pylantir.dicom.net.commands import Operation, ResponseWriter
from pylantir.dicom.net.messages import Message
from workers.supervisor.probe import ANSWER_WITHIN_S, PROBE_EVERY_S, ServerWatch, probe_title

TITLE = probe_title(b"key")
PID = 17


@contextmanager
def watching(bound: socket.socket) -> Iterator[ServerWatch]:
    watch = ServerWatch(bound.getsockname(), "PYLANTIR", TITLE)
    assert not watch.serve(PID, 0.0)
    assert (list(watch.filenos()), watch.deadline()) == ([], PROBE_EVERY_S)
    yield watch
    watch.close()


def is_answered(watch: ServerWatch, now: float) -> bool:
    """Run one probe to its end; tells whether there was an answer."""
    watch.serve(PID, now)
    deadline = time.monotonic() + 60
    while waiting := list(watch.filenos()):
        if not wait(waiting, max(0.0, deadline - time.monotonic())):
            return False
        watch.serve(PID, now)
    return watch.deadline() == now + PROBE_EVERY_S


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"allowed_aet": (TITLE, "MR1")},
        {"allowed_aet": ("MR1",)},
        {"allowed_hosts": ("10.1.2.0/24",)},
        {"check_called_aet": True},
        {"check_called_aet": True, "ae_title": "OTHER"},
    ],
    ids=str,
)
def test_a_server_that_works_answers_whomever_else_it_serves(bound: socket.socket, settings: dict[str, object]) -> None:
    with serving(bound, lambda _: iter(()), **settings), watching(bound) as watch:
        for turn in range(1, 4):
            assert is_answered(watch, turn * PROBE_EVERY_S)


def test_the_answer_is_a_c_echo(bound: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    answered: queue.SimpleQueue[tuple[str, Operation]] = queue.SimpleQueue()
    writer_of = Association._writer_of

    def note(association: Association, message: Message) -> ResponseWriter:
        answered.put((association.request.calling, message.command.operation))
        return writer_of(association, message)

    monkeypatch.setattr(Association, "_writer_of", note)
    with serving(bound, lambda _: iter(())), watching(bound) as watch:
        assert is_answered(watch, PROBE_EVERY_S)
        assert answered.get(timeout=60) == (TITLE, Operation.C_ECHO)


def test_two_silences_in_a_row_are_too_many(bound: socket.socket) -> None:
    with watching(bound) as watch:
        now = PROBE_EVERY_S
        for silence in (1, 2):
            assert not watch.serve(PID, now)
            assert list(watch.filenos())
            assert not watch.serve(PID, now + ANSWER_WITHIN_S - 0.1)
            now += ANSWER_WITHIN_S
            assert watch.serve(PID, now) is (silence == 2)


def test_a_successor_begins_with_a_clean_slate(bound: socket.socket) -> None:
    with watching(bound) as watch:
        watch.serve(PID, PROBE_EVERY_S)
        watch.serve(PID, PROBE_EVERY_S + ANSWER_WITHIN_S)
        assert not watch.serve(PID + 1, PROBE_EVERY_S + ANSWER_WITHIN_S)
        assert watch.deadline() == 2 * PROBE_EVERY_S + ANSWER_WITHIN_S
        watch.serve(None, 100.0)
        assert (list(watch.filenos()), watch.deadline()) == ([], None)


def test_a_hang_up_and_any_other_answer_are_signs_of_life(bound: socket.socket) -> None:
    with watching(bound) as watch:
        for turn, reply in enumerate((b"", b"\x15\x03\x01\0\x02\x02\x46"), 1):
            watch.serve(PID, turn * PROBE_EVERY_S)
            peer, _ = bound.accept()
            with peer, suppress(OSError):
                peer.sendall(reply)
            assert is_answered(watch, turn * PROBE_EVERY_S)


def test_a_full_backlog_delays_nobody(bound: socket.socket) -> None:
    bound.listen(0)
    with watching(bound) as watch, socket.socket() as other, socket.socket() as another:
        for one in (other, another):
            one.setblocking(False)
            with suppress(BlockingIOError):
                one.connect(bound.getsockname())
        began = time.monotonic()
        watch.serve(PID, PROBE_EVERY_S)
        assert watch.serve(PID, PROBE_EVERY_S + ANSWER_WITHIN_S)
        assert time.monotonic() - began < 30
