"""What a source tells: each thing once, as long as it stays as it is."""

from __future__ import annotations

import json
import logging
import socket
from typing import Any

import pytest

from pylantir.errors import SourceUnavailable
from pylantir.ipc.batch import CycleResult
from pylantir.ipc.frames import FrameReader
from pylantir.settings import PluginType
from workers.child.channel import Channel
from workers.source.telling import LOGGED_REJECTIONS, CycleTelling, RejectionLog

PLUGIN = PluginType(type_name="csv", module="pylantir.data_sources.csv_file", class_name="CsvPlugin", builtin=True)


class Heard:
    """The supervisor's end of the line."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        self.channel = Channel(theirs)
        self._reader = FrameReader()

    def reports(self) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for frame in self._reader.feed(self._socket.recv(65536)):
            values |= json.loads(json.dumps(frame))["values"]
        return values


@pytest.fixture
def heard() -> Heard:
    return Heard()


def lines(caplog: pytest.LogCaptureFixture, level: int = logging.WARNING) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= level]


def test_the_same_failure_again_is_no_new_line(heard: Heard, caplog: pytest.LogCaptureFixture) -> None:
    telling = CycleTelling(heard.channel, "a", PLUGIN)
    for _ in range(5):
        error = telling.describe_failure(SourceUnavailable("a.csv: locked"))
        telling.tell_cycle("now", CycleResult(), error, 0.1)
    assert len(lines(caplog)) == 2
    error = telling.describe_failure(SourceUnavailable("a.csv: absent"))
    telling.tell_cycle("now", CycleResult(), error, 0.1)
    assert len(lines(caplog)) == 4
    assert heard.reports()["last_error"] == "a.csv: absent"


def test_a_failure_after_a_success_is_told_anew(heard: Heard, caplog: pytest.LogCaptureFixture) -> None:
    telling = CycleTelling(heard.channel, "a", PLUGIN)
    for error in ("a.csv: locked", None, "a.csv: locked"):
        told = telling.describe_failure(SourceUnavailable(error)) if error else None
        telling.tell_cycle("now", CycleResult(), told, 0.1)
    assert len(lines(caplog)) == 4


def test_a_foreign_exception_is_in_the_log_with_its_traceback_and_in_the_status_without_its_text(
    heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    telling = CycleTelling(heard.channel, "a", PLUGIN)
    for _ in range(2):
        with pytest.raises(ValueError, match="Doe") as raised:
            int("P1 Doe")
        told = telling.describe_failure(raised.value)
    assert "Doe" not in told
    assert "ValueError" in told
    assert len(lines(caplog)) == 1
    assert "Traceback" in lines(caplog)[0]


def test_what_is_held_back_is_told_once(heard: Heard, caplog: pytest.LogCaptureFixture) -> None:
    telling = CycleTelling(heard.channel, "a", PLUGIN)
    for _ in range(3):
        telling.tell_cycle("now", CycleResult(held={"would_cancel": 5, "of": 6}), None, 0.1)
    assert len(lines(caplog)) == 1
    assert "would cancel 5 of 6" in heard.reports()["last_error"]


def test_a_rejected_record_is_told_once_while_it_stays(caplog: pytest.LogCaptureFixture) -> None:
    log = RejectionLog()
    for cycle in (["row 1: no date"], ["row 1: no date", "row 2: no date"], [], ["row 1: no date"]):
        log.begin()
        for line in cycle:
            log.add(line)
        log.end()
    assert lines(caplog) == ["row 1: no date", "row 2: no date", "row 1: no date"]


def test_of_many_rejected_records_some_are_told_and_how_many_there_are(caplog: pytest.LogCaptureFixture) -> None:
    log = RejectionLog()
    for _ in range(2):
        log.begin()
        for number in range(1000):
            log.add(f"row {number}: no date")
        log.end()
    assert len(lines(caplog)) == LOGGED_REJECTIONS + 1
    assert lines(caplog)[-1].startswith("1000 records rejected in all")
