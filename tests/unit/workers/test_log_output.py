"""The log never waits for its reader."""

from __future__ import annotations

import contextlib
import logging
import os
import pty
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from workers.child.log_output import KEPT_BYTES, LogOutput

LINE = "x" * 99


def record(message: str = LINE) -> logging.LogRecord:
    return logging.LogRecord("test", logging.INFO, "", 0, message, (), None)


@pytest.fixture(params=["pipe", "socket", "terminal"])
def ends(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    """Give the reader's and the writer's descriptor."""
    if request.param == "pipe":
        reader, writer = os.pipe()
    elif request.param == "terminal":
        reader, writer = pty.openpty()
    else:
        reader, writer = (one.detach() for one in socket.socketpair())
    yield reader, writer
    for fd in (reader, writer):
        with contextlib.suppress(OSError):
            os.close(fd)


def read_until(fd: int, end: bytes) -> bytes:
    data, deadline = b"", time.monotonic() + 60
    while end not in data and time.monotonic() < deadline:
        data += os.read(fd, 65536)
    return data


def test_a_line_is_written_at_once(ends: tuple[int, int]) -> None:
    reader, writer = ends
    LogOutput(writer).emit(record())
    assert os.read(reader, 200).strip() == LINE.encode()


def test_a_reader_that_stalls_holds_up_nobody_and_is_told_what_it_missed(ends: tuple[int, int]) -> None:
    reader, writer = ends
    output = LogOutput(writer)
    began = time.monotonic()
    for _ in range(2 * (KEPT_BYTES + 1024 * 1024) // len(LINE)):
        output.emit(record())
    output.flush()
    assert time.monotonic() - began < 60
    assert output.dropped > 0
    written = read_until(reader, b"nobody read it")
    assert written.count(LINE.encode()) > KEPT_BYTES / 200
    assert f"{output.dropped} lines of the log were dropped".encode() in written
    output.emit(record("later"))
    assert b"later" in read_until(reader, b"later")


def test_lines_of_several_threads_stay_whole_and_in_order(ends: tuple[int, int]) -> None:
    reader, writer = ends
    output = LogOutput(writer)

    def write(name: str) -> None:
        for number in range(300):
            output.handle(record(f"{name} {number}"))

    threads = [threading.Thread(target=write, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    lines: list[str] = []
    data = b""
    while len(lines) < 600:
        data += os.read(reader, 4096)
        lines = data.decode().replace("\r", "").split("\n")[:-1]
    for thread in threads:
        thread.join()
    for name in "ab":
        assert [line for line in lines if line.startswith(name)] == [f"{name} {number}" for number in range(300)]


def test_a_reader_that_has_gone_is_no_error() -> None:
    reader, writer = os.pipe()
    output = LogOutput(writer)
    os.close(reader)
    output.emit(record())
    assert output.dropped == 1
    os.close(writer)


def test_others_who_share_the_descriptor_are_not_made_non_blocking(ends: tuple[int, int]) -> None:
    LogOutput(ends[1]).emit(record())
    assert os.get_blocking(ends[1])


def test_a_file_gets_every_line(tmp_path: Path) -> None:
    with (tmp_path / "log").open("ab") as file:
        output = LogOutput(file.fileno())
        for _ in range(10_000):
            output.emit(record())
    assert (tmp_path / "log").read_bytes().count(b"\n") == 10_000


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_completed_before_anything_is_opened(closed: str) -> None:
    said = (
        "import os, sys; from pylantir.programs.streams import complete_standard_streams as c; c(); "
        "print('x'); print('x', file=sys.stderr); sys.exit(os.open('/', os.O_RDONLY) < 3)"
    )
    command = f'exec {sys.executable} -c "{said}" {closed}'
    assert subprocess.run(["sh", "-c", command], check=False, capture_output=True, timeout=30).returncode == 0


def test_a_thread_that_cannot_be_started_costs_no_line_and_nobody_an_exception(
    ends: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = ends
    output = LogOutput(writer)

    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        while not output._kept:
            output.emit(record())
    output.emit(record("later"))
    assert b"later" in read_until(reader, b"later")
    assert output.dropped == 0


def test_a_thread_that_fails_is_followed_by_another(ends: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = ends
    output = LogOutput(writer)

    def wait(_timeout_s: float) -> bool:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(output._descriptor, "wait", wait)
        while not output._kept:
            output.emit(record())
        while output._writes_kept:
            time.sleep(0.01)
    output.emit(record("later"))
    assert b"later" in read_until(reader, b"later")


def test_a_line_that_cannot_be_formatted_is_counted(ends: tuple[int, int]) -> None:
    class Hostile:
        def __str__(self) -> str:
            raise ValueError

    output = LogOutput(ends[1])
    output.emit(logging.LogRecord("test", logging.INFO, "", 0, "%s", (Hostile(),), None))
    assert output.dropped == 1
