"""The explanation of the processes: its states and figures are those of the program."""

from __future__ import annotations

import re

from pages import REPOSITORY

from pylantir.schedule import backoff_delay
from workers.supervisor.children.child import USEFUL_AFTER_S
from workers.supervisor.children.lifecycle import State
from workers.writer.queue import WINDOW

PAGE = (REPOSITORY / "docs/explanation/processes.md").read_text(encoding="utf-8")
ONE_LINE = " ".join(PAGE.split())


def test_every_state_is_explained() -> None:
    assert re.findall(r"^\| ([A-Z]+) \|", PAGE, re.MULTILINE) == [state.value for state in State]


def test_figures_are_those_of_the_program() -> None:
    assert (WINDOW, "at most four batches" in ONE_LINE) == (4, True)
    assert [backoff_delay(failures, 60.0) for failures in range(1, 6)] == [0, 1, 2, 4, 8]
    assert "at once the first time, then after 1, 2, 4 … seconds" in ONE_LINE
    assert (USEFUL_AFTER_S, "five seconds of service" in ONE_LINE) == (5.0, True)
