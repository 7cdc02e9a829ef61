"""A plugin of pytest that lets tests stand still at random, as a busy machine does: `make pauses`.

Before the first run of each line of a test, and of what its file holds, the test's thread pauses. The program does not. A
test that fails so depends on how fast it runs, or shows a state of the program that lasts only a moment.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Iterator
from types import CodeType, FrameType
from typing import Any

import pytest

LONGEST_S = float(os.environ.get("PAUSE", "1.2"))
SEED = os.environ.get("SEED", "0")
SHARE = float(os.environ.get("SHARE", "1"))
"""Of the lines, so many are preceded by a pause."""
MOST_S = 45.0
"""Of all pauses of a test."""

# Tests replace it.
_sleep = time.sleep


class Pauses:
    """The pauses of one test."""

    def __init__(self, item: pytest.Item) -> None:
        self._chance = random.Random(f"{SEED} {item.nodeid}")
        self._path = str(item.path)
        self._seen: set[tuple[CodeType, int]] = set()
        self._left_s = MOST_S

    def follow(self, frame: FrameType, _event: str, _argument: object) -> Any:
        """Trace a function of the test's file."""
        return self._before_line if frame.f_code.co_filename == self._path else None

    def _before_line(self, frame: FrameType, event: str, _argument: object) -> Any:
        line = (frame.f_code, frame.f_lineno)
        if event == "line" and line not in self._seen:
            self._seen.add(line)
            if self._left_s > 0 and self._chance.random() < SHARE:
                pause_s = self._chance.uniform(LONGEST_S / 3, LONGEST_S)
                self._left_s -= pause_s
                _sleep(pause_s)
        return self._before_line


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Run a test with pauses; one that tries many examples of its own runs without them."""
    if not getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
        sys.settrace(Pauses(item).follow)
    try:
        return (yield)
    finally:
        sys.settrace(None)
