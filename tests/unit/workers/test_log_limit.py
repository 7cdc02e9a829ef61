"""What a stranger can cause over HTTP is logged once a minute, with the number of times."""

from __future__ import annotations

import logging

from workers.web.log_limit import OnceAMinute


def line(message: str, *arguments: object) -> logging.LogRecord:
    return logging.LogRecord("uvicorn.error", logging.WARNING, "", 0, message, arguments, None)


def test_a_message_is_logged_once_a_minute_with_the_number_of_times() -> None:
    now = [100.0]
    limit = OnceAMinute(lambda: now[0])
    assert [limit.filter(line("Invalid HTTP request received.")) for _ in range(4)] == [True, False, False, False]
    assert limit.filter(line("a page could not be shown: %s", "x"))
    assert not limit.filter(line("a page could not be shown: %s", "y"))
    now[0] += 60
    late = line("a page could not be shown: %s", "z")
    assert limit.filter(late)
    assert late.getMessage() == "a page could not be shown: z (1 more since the last such line)"
    late = line("Invalid HTTP request received.")
    assert limit.filter(late)
    assert late.getMessage() == "Invalid HTTP request received. (3 more since the last such line)"
    now[0] += 60
    late = line("Invalid HTTP request received.")
    assert limit.filter(late)
    assert late.getMessage() == "Invalid HTTP request received."


def test_advice_that_would_change_nothing_is_not_logged() -> None:
    assert not OnceAMinute().filter(line("Unsupported upgrade request."))
    assert not OnceAMinute().filter(line('No supported WebSocket library detected. Please use "pip install x"'))
