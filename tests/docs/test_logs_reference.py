"""The reference of log lines: its forms are the real ones, its messages stand in the program, and no line is missing."""

from __future__ import annotations

import logging
import re

import pytest
from log_lines import Line, fits, logged, missing_words, quoted
from pages import REPOSITORY, read_blocks

from workers.child.logs import JsonFormatter, TextFormatter

REFERENCE = (REPOSITORY / "docs/reference/logs.md").read_text(encoding="utf-8")
QUOTED = quoted(REFERENCE)
MESSAGES = [text for text in QUOTED if " " in text]
PUT_TOGETHER = ("cycle ", "source …: new items")
"""The beginnings of messages that the program makes of single words; the tutorial shows them literally."""


@pytest.mark.parametrize("message", MESSAGES)
def test_message_stands_in_the_program(message: str) -> None:
    if message.startswith(PUT_TOGETHER):
        message = "…".join(re.findall(r"\w+", message))
    assert missing_words(message) == []


def test_messages_were_found() -> None:
    assert len(MESSAGES) > 20


@pytest.mark.parametrize("line", logged(logging.INFO), ids=str)
def test_every_line_at_info_and_above_is_in_the_reference(line: Line) -> None:
    assert fits(line, QUOTED), "add it to docs/reference/logs.md"


def test_both_forms_look_as_shown() -> None:
    text, as_json = (block.text.rstrip("\n") for block in read_blocks(REFERENCE))
    record = logging.LogRecord("workers.source.worker", logging.INFO, "", 0, text.split("csv: ")[1], (), None)
    record.created, record.msecs = 1769414400.123, 123.0
    assert TextFormatter("source", "site_b_csv", ()).format(record) == text
    assert JsonFormatter("source", "site_b_csv", ()).format(record) == as_json
