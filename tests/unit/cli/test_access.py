"""`pylantir access` for people: two lines an answer, within the terminal's width."""

from __future__ import annotations

from typing import Any

from pylantir.cli.accesses.listing import _lines

ROW: dict[str, Any] = {
    "at": "2026-11-30T12:00:00.000000+00:00",
    "last_at": "2026-11-30T12:30:00.000000+00:00",
    "count": 31,
    "service": "C-FIND",
    "address": "10.0.0.7",
    "peer": "MRI_SCANNER_1",
    "certificate": None,
    "asked": "Modality, ScheduledStationAETitle, ScheduledProcedureStepStartDate",
    "status": "0000",
    "matches": 30,
    "item_ids": list(range(100_000, 100_030)),
}


def test_no_line_is_longer_than_the_terminal_and_no_number_is_divided() -> None:
    lines = _lines(ROW, 80)
    assert max(map(len, lines)) <= 80
    assert "(31 times)  MRI_SCANNER_1 at 10.0.0.7" in lines[0]
    text = " ".join(line.strip() for line in lines)
    assert "status 0000, 30 shown: items 100000, 100001" in text
    assert text.endswith("100019, …")


def test_a_single_answer_says_its_moment_once() -> None:
    row = {**ROW, "last_at": ROW["at"], "count": 1, "item_ids": [], "matches": 0, "asked": "", "certificate": "CN=MR1"}
    first, second = _lines(row, 1000)
    assert first.count(":00:00") == 1
    assert first.endswith("  MRI_SCANNER_1 at 10.0.0.7, certificate CN=MR1")
    assert second == "    C-FIND: status 0000, 0 shown"


def test_a_title_cannot_act_on_the_terminal() -> None:
    assert "\x1b" not in "".join(_lines({**ROW, "peer": "MR\x1b[2J"}, 80))
