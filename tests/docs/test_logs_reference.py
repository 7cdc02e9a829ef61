"""The reference of log lines: its forms are the real ones, its messages stand in the program."""

from __future__ import annotations

import ast
import logging
import re
from pathlib import Path

import pytest
from pages import REPOSITORY, read_blocks

from workers.child.logs import JsonFormatter, TextFormatter

REFERENCE = (REPOSITORY / "docs/reference/logs.md").read_text(encoding="utf-8")
MESSAGES = re.findall(r"^\| `([^`]+)` \|", REFERENCE, re.MULTILINE)


def constants_of(path: Path) -> list[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]


SAID = "\n".join(
    text
    for package in ("pylantir", "workers")
    for path in (REPOSITORY / package).rglob("*.py")
    for text in constants_of(path)
)
PUT_TOGETHER = ("cycle ", "source …: new items")
"""The beginnings of messages that the program makes of single words; the tutorial shows them literally."""


@pytest.mark.parametrize("message", MESSAGES)
def test_message_stands_in_the_program(message: str) -> None:
    fixed = [part.strip(" :;,()") for part in message.split("…")]
    if message.startswith(PUT_TOGETHER):
        fixed = re.findall(r"\w+", message)
    assert [part for part in fixed if part not in SAID] == []


def test_messages_were_found() -> None:
    assert len(MESSAGES) > 20


def test_both_forms_look_as_shown() -> None:
    text, as_json = (block.text.rstrip("\n") for block in read_blocks(REFERENCE))
    record = logging.LogRecord("workers.source.worker", logging.INFO, "", 0, text.split("csv: ")[1], (), None)
    record.created, record.msecs = 1769414400.123, 123.0
    assert TextFormatter("source", "site_b_csv", ()).format(record) == text
    assert JsonFormatter("source", "site_b_csv", ()).format(record) == as_json
