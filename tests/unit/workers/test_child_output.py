"""What a child prints: kept as evidence, logged within bounds, and never more than so much of the supervisor's time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection

import pytest

from workers.supervisor.output import KEPT_LINES, LOGGED_LINES_PER_MINUTE, ChildOutput

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
    made = ChildOutput()
    made.attach(reader, ["s3cret"])
    yield made
    made.detach(SECOND)


def test_whole_lines_are_logged_and_kept_secrets_struck_out(child: Connection, output: ChildOutput) -> None:
    os.write(child.fileno(), b"one s3cret\n\ntwo\nthr")
    assert output.take(SECOND) == ["one ***", "two"]
    os.write(child.fileno(), b"ee")
    assert output.take(SECOND) == []
    assert output.detach(SECOND) == ["three"]
    assert output.last_words() == ("one ***", "two", "three")


def test_an_unfinished_last_line_is_kept_whenever_the_end_is_noticed(child: Connection, output: ChildOutput) -> None:
    os.write(child.fileno(), b"whole\nunfinished")
    child.close()
    assert output.take(SECOND) == ["whole"]
    assert output.take(SECOND) == []
    assert output.detach(SECOND) == ["unfinished"]
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
    assert output.take(SECOND) == ["noise"] * LOGGED_LINES_PER_MINUTE
    os.write(child.fileno(), b"later\n")
    (later, remark) = output.take(SECOND + 60)
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


def test_the_end_of_the_pipe_ends_the_listening(output: ChildOutput, child: Connection) -> None:
    child.close()
    assert output.take(SECOND) == []
    assert output.filenos(SECOND) == []
