"""The page of questions by message: its messages exist, and no line that the log writes as an ERROR is missing."""

from __future__ import annotations

import logging

import pytest
from log_lines import Line, fits, logged, missing_words, quoted
from pages import REPOSITORY

PAGE = (REPOSITORY / "docs/howto/messages.md").read_text(encoding="utf-8")
MESSAGES = [text for text in quoted(PAGE) if " " in text]


@pytest.mark.parametrize("message", MESSAGES)
def test_message_is_in_the_program(message: str) -> None:
    assert missing_words(message) == []


def test_messages_were_found() -> None:
    assert len(MESSAGES) > 60


@pytest.mark.parametrize("line", logged(logging.ERROR), ids=str)
def test_every_error_of_the_log_is_on_the_page(line: Line) -> None:
    assert fits(line, MESSAGES), "add it to docs/howto/messages.md"
