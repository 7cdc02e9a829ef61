"""Log lines: who says what when, one line per event, and never a secret."""

from __future__ import annotations

import json
import logging
import re
import sqlite3
import sys
import threading

import pytest

from pylantir.errors import StoreError, traceback_of
from workers.child.bootstrap import log_ignored_exceptions
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


@pytest.mark.parametrize("char", ["\u202e", "\x9b", "\x1b", "\u2066", "\ufeff", "\u2028", "\r", "\0"])
@pytest.mark.parametrize("formatter", [TextFormatter, JsonFormatter])
def test_what_controls_a_terminal_or_cannot_be_seen_is_escaped(formatter: type[TextFormatter], char: str) -> None:
    made = record("%s", f"before{char}after")
    made.name = f"plugin{char}"
    text = formatter("source", "a", ()).format(made)
    assert text.isprintable()
    said = json.loads(text)["message"] if formatter is JsonFormatter else text.rpartition(": ")[2]
    assert said == f"before{ascii(char)[1:-1]}after"


class Tells(ValueError):
    """A plugin's."""


def failing(first: BaseException, second: BaseException) -> BaseException:
    try:
        second.__cause__ = first
        raise second  # noqa: TRY301 - for its frames
    except BaseException as error:  # noqa: BLE001 - a test's
        return error


@pytest.mark.parametrize("formatter", [TextFormatter, JsonFormatter])
def test_a_traceback_shows_no_message_that_may_quote_a_patient(formatter: type[TextFormatter]) -> None:
    error = failing(Tells("born 1961-02-03"), KeyError("Doe^Jane"))
    made = record("failed")
    made.exc_info = (type(error), error, error.__traceback__)
    text = formatter("source", "a", ()).format(made)
    assert "Doe" not in text
    assert "1961" not in text
    assert "Tells" in text
    assert "KeyError" in text
    assert text.count("in failing") == 1
    assert "Doe^Jane" in formatter("source", "a", (), messages=True).format(made)


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (OSError(12, "Doe"), "OSError: [Errno 12] Cannot allocate memory"),
        (OSError("Doe"), "OSError (its message"),
        (ModuleNotFoundError("No module named 'x'", name="x"), "ModuleNotFoundError: x"),
        (
            SyntaxError("invalid syntax", ("plugin.py", 3, 1, "x = Doe")),
            "SyntaxError: invalid syntax (plugin.py, line 3)",
        ),
        (sqlite3.OperationalError("no such table: x"), "sqlite3.OperationalError: no such table: x"),
        (StoreError("the disk is full"), "pylantir.errors.StoreError: the disk is full"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_a_message_that_is_made_from_no_data_is_shown(error: BaseException, shown: str) -> None:
    text = traceback_of(error)
    assert shown in text
    assert "Doe" not in text


def test_an_exception_that_refers_to_itself_is_described() -> None:
    error = ValueError()
    error.__cause__ = error
    assert traceback_of(error).count("ValueError") == 1


def test_what_ends_a_thread_or_cannot_be_raised_is_logged_without_its_message(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    log_ignored_exceptions()
    patient = "Doe"
    thread = threading.Thread(target=lambda: {}[patient], name="reading")
    thread.start()
    thread.join()

    class Clumsy:
        def __del__(self) -> None:
            raise ValueError(patient)

    Clumsy()
    messages = [made.getMessage() for made in caplog.records]
    assert messages == [
        "thread reading: ended by an unexpected error",
        "an unexpected error while something was cleaned up",
    ]
    assert "Doe" not in "".join(TextFormatter("source", "a", ()).format(made) for made in caplog.records)


def test_secrets_are_struck_out_of_messages_and_tracebacks() -> None:
    for formatter in (TextFormatter("source", "a", ("s3cret", "")), JsonFormatter("source", "a", ("s3cret", ""))):
        text = formatter.format(record("using %s", "s3cret", trace=True))
        assert "s3cret" not in text
        assert text.count("***") >= 2
