"""Health is judged from work done: what of a process's description is a problem, and what is none."""

from __future__ import annotations

import io
import os
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from workers.commands.detach import describe_crash, has_crashed
from workers.commands.log_view import wanted_lines
from workers.commands.status_view import draw_cycles, print_status, worst_first
from workers.supervisor.children.lifecycle import State
from workers.supervisor.children.resources import PER_CHILD, RESERVED, describe_shortage, lacks_processor
from workers.supervisor.status import find_problem, judge, overdue_s, tell_leases

WELL: dict[str, Any] = {
    "name": "a", "state": State.RUNNING, "ready": True, "last_error": None, "heartbeat_age_s": 1.0, "last_exit": None,
    "last_sync": "2026-01-01T00:00:00+00:00", "waits_for_window": False, "overdue_s": None, "progress": None,
    "restarts": 0,
}  # fmt: skip


def health(**changes: Any) -> str:
    process = {**WELL, **changes}
    return judge([{**process, "problem": find_problem(process)}], stopping=False)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "healthy"),
        ({"last_error": "the disk is full"}, "degraded"),
        ({"heartbeat_age_s": 15.1}, "degraded"),
        ({"heartbeat_age_s": 14.9}, "healthy"),
        ({"heartbeat_age_s": 200.0, "progress": {"fetched": 0}}, "healthy"),
        ({"heartbeat_age_s": 20.0, "state": State.STARTING}, "starting"),
        ({"overdue_s": 11.0}, "degraded"),
        ({"state": State.BACKOFF}, "degraded"),
        ({"state": State.FATAL}, "degraded"),
        ({"last_sync": None}, "starting"),
        ({"last_sync": None, "waits_for_window": True}, "healthy"),
        ({"last_sync": None, "overdue_s": 11.0}, "degraded"),
        ({"state": "STANDBY (north)", "last_sync": None}, "healthy"),
        ({"state": "STANDBY (north)", "heartbeat_age_s": 15.1}, "degraded"),
    ],
)
def test_health_follows_the_work_not_the_state(changes: dict[str, Any], expected: str) -> None:
    assert health(**changes) == expected


@pytest.mark.parametrize(
    ("own", "clock", "told"),
    [(None, None, None), ("audit waits", None, "audit waits"), (None, "a day ahead", "a day ahead"),
     ("audit waits", "a day ahead", "audit waits; a day ahead")],
)  # fmt: skip
def test_a_clock_that_is_wrong_is_a_warning_of_the_writer(own: str | None, clock: str | None, told: str | None) -> None:
    writer, source = {**WELL, "name": "writer", "role": "writer", "warning": own}, {**WELL, "role": "source"}
    tell_leases([writer, source], {"clock": clock, "leases": {"a": "north"}})
    assert (writer["warning"], source.get("warning"), source["lease_host"]) == (told, None, "north")


def test_hosts_with_other_rules_are_a_warning_of_the_writer() -> None:
    writer = {**WELL, "name": "writer", "role": "writer", "warning": None}
    tell_leases([writer], {"clock": "a day ahead", "other_rules": ["east", "south"]})
    told = "`deduplication` differs from that on east, south; give all hosts the same"
    assert writer["warning"] == f"a day ahead; {told}"


def test_sources_whose_hosts_are_all_away_are_a_warning_of_the_writer() -> None:
    writer = {**WELL, "name": "writer", "role": "writer", "warning": None}
    tell_leases([writer], {"abandoned": {}})
    assert writer["warning"] is None
    tell_leases([writer], {"abandoned": {"ct": ["east", "west"], "mr": ["east"]}})
    assert str(writer["warning"]).startswith("nobody fetches ct, mr: no host that has it runs (east, west); start it")


@given(st.floats(1, 100_000), st.floats(0, 1_000_000))
def test_a_success_may_be_three_intervals_and_ten_seconds_old(interval_s: float, age_s: float) -> None:
    assert (overdue_s(age_s, interval_s) is None) == (age_s <= max(3 * interval_s, 10))


def test_problems_come_first_then_what_is_not_ready_then_the_others_in_their_order() -> None:
    processes = [
        {**WELL, "name": name, "problem": problem, "ready": ready}
        for name, problem, ready in (
            ("a", None, True),
            ("b", None, False),
            ("c", "x", True),
            ("d", "x", False),
            ("e", None, True),
        )
    ]
    assert [process["name"] for process in worst_first(processes)] == ["d", "c", "b", "a", "e"]


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_list_of_problems_cuts_neither_a_name_nor_a_problem(width: int) -> None:
    name, problem = "clinic_of_the_university_hospital", "no such file; check file_path, or wait for the export " * 3
    processes = [
        {**WELL, "name": "writer", "state": "RUNNING", "ready": True, "retry_in_s": None},
        {**WELL, "name": name, "state": "RUNNING", "ready": True, "problem": problem, "retry_in_s": None},
    ]
    console = Console(file=io.StringIO(), width=width)
    print_status(console, {"health": "degraded", "config": "pylantir.json", "processes": processes}, problems=True)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert name in said
    assert " ".join(problem.split()) in " ".join(said.split())
    assert said.index(name) < said.index("writer")


def test_what_others_have_named_cannot_turn_the_direction_of_a_line() -> None:
    odd = "s\u202eouth[red]"
    status = {
        "health": "degraded", "config": f"/etc/{odd}/pylantir.json", "reload_problems": [odd],
        "cluster": {"host": odd, "hosts": {odd: True, "north": False}, "leases": {}},
        "processes": [{**WELL, "pid": 1, "uptime_s": 1, "cpu_percent": 0, "memory_mb": 1, "retry_in_s": None, "warning": odd, "problem": odd}],
    }  # fmt: skip
    for problems in (False, True):
        console = Console(file=io.StringIO(), width=200)
        print_status(console, status, problems=problems)
        said = console.file.getvalue()  # type: ignore[attr-defined]
        assert "\u202e" not in said
        assert "Pylantir is degraded  (/etc/s\\u202eouth[red]/pylantir.json)" in said
        assert "hosts: s\\u202eouth[red] is there, north is away; this one is s\\u202eouth[red]" in said


@pytest.mark.parametrize(
    ("state", "last_success", "said"),
    [
        (State.RUNNING, "9999-01-01T00:00:00+00:00", "0 s ago"),
        (State.RUNNING, None, "never"),
        ("STANDBY (north)", "2026-01-01T00:00:00+00:00", "-"),
    ],
)
def test_the_last_sync_is_never_in_the_future_and_on_a_host_that_stands_by_it_is_not_told(
    state: str, last_success: str | None, said: str
) -> None:
    source = {
        **WELL, "state": state, "pid": 1, "uptime_s": 1, "cpu_percent": 0, "memory_mb": 1, "problem": None, "lag_s": 77,
        "entries": 3, "rejected": 0, "next_sync": None, "last_success": last_success,
    }  # fmt: skip
    for problems in (False, True):
        console = Console(file=io.StringIO(), width=200)
        print_status(console, {"health": "healthy", "config": "x", "processes": [source]}, problems=problems)
        (line,) = [
            line for line in console.file.getvalue().splitlines()  # type: ignore[attr-defined]
            if line.startswith("a ") and ("1.3 min" in line or problems)
        ]  # fmt: skip
        assert f" {said} " in line.removeprefix(f"a  {state}")


def test_a_first_crash_may_be_an_accident_the_second_is_told() -> None:
    crashed = {**WELL, "ready": False, "state": State.STARTING, "last_exit": "status 7", "last_words": ["no licence"]}
    assert not has_crashed({**crashed, "restarts": 0})
    assert has_crashed({**crashed, "restarts": 1})
    assert has_crashed({**crashed, "state": State.FATAL})
    assert describe_crash(crashed) == "a does not become ready; it ended with status 7: no licence"


TEXT = """\
2026-01-26T08:00:00.123Z INFO    supervisor: serving
2026-01-26T08:00:00.123Z ERROR   source a: fetch failed:
    Traceback
2026-01-26T08:00:00.123Z WARNING source a: b: held back
2026-01-26T08:00:00.123Z INFO    writer: source a: new items 1
{"time": "2026", "process": "source", "source": "a", "message": "json"}
{"time": "2026", "process": "writer", "source": null, "message": "json"}
"""


@pytest.mark.parametrize(
    ("name", "expected"),
    [(None, 7), ("a", 4), ("supervisor", 1), ("writer", 2), ("source", 0)],
)
def test_a_processes_lines_are_its_events_with_all_their_lines(name: str | None, expected: int) -> None:
    is_wanted = wanted_lines(name)
    assert len([line for line in TEXT.splitlines(keepends=True) if is_wanted(line)]) == expected


def test_too_few_descriptors_are_told_with_both_numbers() -> None:
    assert describe_shortage(10, PER_CHILD * 10 + RESERVED) is None
    assert "need 88 open files, and the limit is 87" in (describe_shortage(10, 87) or "")


@pytest.mark.parametrize(
    ("does", "would_go_on"),
    [(psutil.STATUS_RUNNING, True), (psutil.STATUS_DISK_SLEEP, True), (psutil.STATUS_SLEEPING, False)],
)
def test_who_waits_for_a_processor_or_a_disk_would_go_on(
    monkeypatch: pytest.MonkeyPatch, does: str, would_go_on: bool
) -> None:
    monkeypatch.setattr(psutil.Process, "status", lambda _: does)
    assert lacks_processor(os.getpid(), 1e6) is would_go_on
    assert not lacks_processor(os.getpid(), 0.0)
    assert not lacks_processor(None, 1e6)


def test_recent_cycles_are_bars_and_failures_crosses() -> None:
    assert draw_cycles([0.1, 0.05, None, 0.0]) == "█▅✗▁"
    assert draw_cycles([0.0, 0.0]) == "▁▁"
    assert draw_cycles(None) == ""
