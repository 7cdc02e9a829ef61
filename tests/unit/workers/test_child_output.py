"""What a child prints: kept as evidence, logged within bounds, and never more than so much of the supervisor's time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection

import pytest

from workers.supervisor.children.output import (
    COUNT_AFTER_S,
    COUNT_EVERY_S,
    KEPT_LINES,
    LOGGED_LINES_PER_MINUTE,
    ChildOutput,
    Heard,
)

SECOND = 1000.0


@pytest.fixture
def child() -> Iterator[Connection]:
    reader, writer = Pipe(duplex=False)
    with reader, writer:
        yield writer


@pytest.fixture
def output(child: Connection, request: pytest.FixtureRequest) -> Iterator[ChildOutput]:
    reader, writer = Pipe(duplex=False)
    os.dup2(writer.fileno(), child.fileno())
    writer.close()
    made = ChildOutput(of_plugin=getattr(request, "param", None) == "plugin")
    made.attach(reader, ["s3cret"])
    yield made
    made.detach(SECOND)


def test_whole_lines_are_logged_and_kept_secrets_struck_out(child: Connection, output: ChildOutput) -> None:
    os.write(child.fileno(), b"one s3cret\n\ntwo\nthr")
    assert output.take(SECOND).lines == ["one ***", "two"]
    os.write(child.fileno(), b"ee")
    assert output.take(SECOND).lines == []
    assert output.detach(SECOND).lines == ["three"]
    assert output.last_words() == ("one ***", "two", "three")


def test_an_unfinished_last_line_is_kept_whenever_the_end_is_noticed(child: Connection, output: ChildOutput) -> None:
    os.write(child.fileno(), b"whole\nunfinished")
    child.close()
    assert output.take(SECOND).lines == ["whole"]
    assert output.take(SECOND).lines == []
    assert output.detach(SECOND).lines == ["unfinished"]
    assert output.last_words() == ("whole", "unfinished")


def test_the_last_lines_are_kept_and_no_more(child: Connection, output: ChildOutput) -> None:
    os.write(child.fileno(), b"".join(b"%d %s\n" % (number, b"x" * 600) for number in range(50)))
    output.take(SECOND)
    words = output.last_words()
    assert [word.split()[0] for word in words] == [str(number) for number in range(50 - KEPT_LINES, 50)]
    assert max(map(len, words)) <= 500


def test_words_from_the_log_are_kept_as_well(output: ChildOutput) -> None:
    output.remember("ERROR it broke\n  File x")
    assert output.last_words() == ("ERROR it broke", "  File x")


def test_a_flood_is_left_out_of_the_log_and_that_is_said(child: Connection, output: ChildOutput) -> None:
    os.write(child.fileno(), b"noise\n" * 1000)
    assert output.take(SECOND).lines == ["noise"] * LOGGED_LINES_PER_MINUTE
    os.write(child.fileno(), b"later\n")
    (later, remark) = output.take(SECOND + 60).lines
    assert later == "later"
    assert f"({1000 - LOGGED_LINES_PER_MINUTE} lines" in remark


def test_a_flooding_child_waits_for_the_next_second(child: Connection, output: ChildOutput) -> None:
    os.set_blocking(child.fileno(), False)
    taken = 0
    while output.filenos(SECOND):
        os.write(child.fileno(), b"n" * 4096)
        output.take(SECOND)
        taken += 1
    assert taken <= 16
    assert output.deadline(SECOND) == SECOND + 1
    assert output.filenos(SECOND + 1)
    assert output.deadline(SECOND + 1) is None


CRASH = """Fatal Python error: Segmentation fault

Thread 0x00007fd4c38ff6c0 (most recent call first):
  File "/x/threading.py", line 1002 in _bootstrap

Current thread 0x00007ff48c08ab80 (most recent call first):
  File "/x/my plugin.py", line 519 in fetch_entries
  File "/x/run.py", line 4 in <module>
"""


@pytest.mark.parametrize("output", ["plugin"], indirect=True)
def test_what_a_plugin_prints_is_kept_apart_and_only_the_report_of_a_crash_is_evidence(
    child: Connection, output: ChildOutput
) -> None:
    prints = ["Doe^Jane ***", "  File of Doe, line 3 in bed", '  File "x", line 3 in Doe Jane', "Thread of Doe"]
    os.write(child.fileno(), "\n".join(prints).replace("***", "s3cret").encode() + b"\n" + CRASH.encode())
    heard = output.detach(SECOND)
    assert heard.lines == [line for line in CRASH.splitlines() if line]
    assert (heard.prints, heard.printed) == (prints, len(prints))
    assert output.last_words() == tuple(heard.lines)


@pytest.mark.parametrize("output", ["plugin"], indirect=True)
def test_the_lines_of_a_plugin_are_counted_soon_and_then_once_a_minute(child: Connection, output: ChildOutput) -> None:
    def printed(at: float, lines: int = 0) -> int:
        if lines:
            os.write(child.fileno(), b"Doe\n" * lines)
        return output.take(at).printed

    assert output.deadline(SECOND) is None
    assert printed(SECOND, 1) == printed(SECOND + 0.1, 2) == 0
    told = output.deadline(SECOND)
    assert told == SECOND + COUNT_AFTER_S
    assert printed(told) == 3
    assert output.deadline(told) is None
    assert printed(told + 2, 5) == printed(told + 3, 50) == 0
    assert output.deadline(told + 3) == told + COUNT_EVERY_S
    assert printed(told + COUNT_EVERY_S) == 55
    os.write(child.fileno(), b"the end")
    assert output.detach(told + COUNT_EVERY_S + 1) == Heard([], ["the end"], 1)


@pytest.mark.parametrize("output", ["plugin"], indirect=True)
def test_a_flood_of_prints_hides_no_crash(child: Connection, output: ChildOutput) -> None:
    os.write(child.fileno(), b"noise\n" * 1000 + CRASH.encode())
    heard = output.take(SECOND)
    assert len(heard.prints) == LOGGED_LINES_PER_MINUTE
    assert heard.lines[0] == "Fatal Python error: Segmentation fault"


def test_a_secret_at_the_end_of_what_is_shown_of_a_line_is_struck_out(child: Connection, output: ChildOutput) -> None:
    os.write(child.fileno(), b"x" * 497 + b"s3cr")
    output.take(SECOND)
    os.write(child.fileno(), b"et and more\n")
    assert output.take(SECOND).lines == ["x" * 497 + "***"]


def test_the_end_of_the_pipe_ends_the_listening(output: ChildOutput, child: Connection) -> None:
    child.close()
    assert output.take(SECOND).lines == []
    assert output.filenos(SECOND) == []
