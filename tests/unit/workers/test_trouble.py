"""What the writer tells of a database that takes nothing."""

from __future__ import annotations

import logging
import time
from typing import Any

import psycopg
import pytest
from sqlalchemy.exc import OperationalError

from workers.writer.trouble import DatabaseTrouble

FULL = OperationalError("statement", {}, psycopg.errors.DiskFull("no space left"))
SHUT_DOWN = OperationalError("statement", {}, psycopg.errors.AdminShutdown("ended by the administrator"))


@pytest.fixture
def told() -> list[Any]:
    return []


@pytest.fixture
def trouble(told: list[Any]) -> DatabaseTrouble:
    return DatabaseTrouble(lambda report: told.append(report["database"]))


def test_the_same_trouble_is_told_once_until_it_is_over(
    trouble: DatabaseTrouble, told: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    trouble.note(FULL)
    trouble.note(FULL)
    trouble.note_recovery()
    assert told == ["DiskFull: no space left", None]
    assert len(caplog.messages) == 2


def test_troubles_that_take_turns_are_told_once_each_and_status_shows_the_last(
    trouble: DatabaseTrouble, told: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        trouble.note(FULL)
        trouble.note(SHUT_DOWN)
    assert len(caplog.messages) == 2
    assert told[-1] == "AdminShutdown: ended by the administrator"
    trouble.note_recovery()
    trouble.note(FULL)
    assert len(caplog.messages) == 3


def test_a_sign_of_life_that_is_stored_says_nothing_about_frames_that_wait(
    trouble: DatabaseTrouble, told: list[Any]
) -> None:
    trouble.note(FULL)
    first_pause_until = trouble.retry_at
    trouble.note_recovery(frames_waiting=1)
    assert trouble.text
    trouble.note(FULL)
    assert trouble.retry_at > first_pause_until
    trouble.note_recovery(frames_waiting=0)
    assert not trouble.text
    assert told == ["DiskFull: no space left", None]


def test_no_pause_is_longer_than_the_time_between_two_signs_of_life() -> None:
    trouble = DatabaseTrouble(lambda _report: None, 0.7)
    for _ in range(10):
        before = time.monotonic()
        trouble.note(FULL)
        after = time.monotonic()
    assert before + 0.7 <= trouble.retry_at <= after + 0.7
