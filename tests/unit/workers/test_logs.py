"""Log lines: who says what when, one line per event, and never a secret."""

from __future__ import annotations

import json
import logging
import re
import sys

from workers.child.logs import JsonFormatter, TextFormatter


def record(message: str, *arguments: object, level: int = logging.INFO, trace: bool = False) -> logging.LogRecord:
    exc_info = None
    if trace:
        try:
            int("token=s3cret")
        except ValueError:
            exc_info = sys.exc_info()
    made = logging.LogRecord("workers.source.worker", level, __file__, 1, message, arguments, exc_info)
    made.created, made.msecs = 1769414400.123, 123.0
    return made


def test_a_text_line_names_time_level_process_and_source() -> None:
    line = TextFormatter("source", "site_b", ()).format(record("%d entries", 3))
    assert line == "2026-01-26T08:00:00.123Z INFO    source site_b: 3 entries"


def test_a_process_without_source_is_named_alone() -> None:
    line = TextFormatter("writer", None, ()).format(record("ready", level=logging.WARNING))
    assert line == "2026-01-26T08:00:00.123Z WARNING writer: ready"


def test_the_lines_of_a_traceback_are_indented() -> None:
    first, *rest = TextFormatter("source", "a", ()).format(record("failed", trace=True)).split("\n")
    assert first.endswith("source a: failed")
    assert rest
    assert all(line.startswith("    ") for line in rest)


def test_a_message_cannot_pose_as_another_line() -> None:
    text = TextFormatter("source", "a", ()).format(record("%s", "x\n2026-01-26T08:00:00.123Z INFO    writer: y\rz"))
    assert len(re.findall(r"^2026", text, re.MULTILINE)) == 1
    assert "\r" not in text


def test_json_has_one_object_per_line() -> None:
    line = JsonFormatter("source", "site_b", ()).format(record("failed\ntwice", trace=True))
    assert "\n" not in line
    event = json.loads(line)
    assert event["message"].startswith("failed\ntwice\nTraceback")
    del event["message"]
    assert event == {
        "time": "2026-01-26T08:00:00.123Z",
        "level": "INFO",
        "process": "source",
        "source": "site_b",
        "logger": "workers.source.worker",
    }


def test_secrets_are_struck_out_of_messages_and_tracebacks() -> None:
    for formatter in (TextFormatter("source", "a", ("s3cret", "")), JsonFormatter("source", "a", ("s3cret", ""))):
        text = formatter.format(record("using %s", "s3cret", trace=True))
        assert "s3cret" not in text
        assert text.count("***") >= 2
