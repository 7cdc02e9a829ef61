"""What a source no longer gives, through the real processes: held removals, past days, disabled and renamed sources."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, date, datetime, timedelta

from installation import Installation, csv_source, wait_until

from pylantir.ipc.control import ask_supervisor

NUMBERS = [f"P{n:02}" for n in range(20)]
OTHERS = [f"Q{n:02}" for n in range(25)]


def pylantir(installation: Installation, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pylantir.cli.main", command, "--config", str(installation.config_path), *arguments],
        capture_output=True, text=True, env=installation.environment, cwd=installation.folder, timeout=120, check=False,
    )  # fmt: skip


def test_another_departments_file_is_held_until_an_operator_accepts_exactly_what_is_held(
    installation: Installation,
) -> None:
    installation.write_csv("a.csv", NUMBERS)
    installation.configure(csv_source("a", "a.csv"))
    installation.start()
    wait_until(lambda: installation.patients() == NUMBERS, "all are served")
    early = pylantir(installation, "accept", "a")
    assert (early.returncode, "nothing is held" in early.stdout) == (0, True)

    installation.write_csv("a.csv", OTHERS)
    wait_until(lambda: "held back" in str(installation.process("a").get("last_error")), "the removal is held")
    assert installation.patients() == NUMBERS + OTHERS
    held = json.loads(pylantir(installation, "accept", "a", "--show", "--json").stdout)
    assert [(one["patient_id"], one["scheduled_start_date"]) for one in held] == [(one, "20300101") for one in NUMBERS]
    tried = pylantir(installation, "accept", "a", "--dry-run")
    assert (tried.returncode, "20 items would be cancelled" in tried.stdout) == (0, True)
    assert installation.patients() == NUMBERS + OTHERS

    done = pylantir(installation, "accept", "a")
    assert (done.returncode, "20 items cancelled" in done.stdout) == (0, True)
    assert installation.patients() == OTHERS
    installation.write_csv("a.csv", [])
    wait_until(lambda: "held back" in str(installation.process("a").get("last_error")), "the next one is held again")
    assert installation.patients() == OTHERS


def test_yesterdays_list_simply_goes_when_todays_comes(installation: Installation) -> None:
    today = date.today()  # noqa: DTZ011 - the site's day
    installation.write_csv("a.csv", NUMBERS, date=(today - timedelta(days=1)).isoformat())
    installation.configure(csv_source("a", "a.csv"))
    installation.start()
    wait_until(lambda: installation.patients() == NUMBERS, "yesterday's are there")
    installation.write_csv("a.csv", OTHERS, date=(today + timedelta(days=1)).isoformat())
    wait_until(lambda: installation.patients() == OTHERS, "yesterday's have gone")
    wait_until(lambda: installation.status().get("health") == "healthy", "nothing is held")


def test_disabled_and_renamed_sources_are_listed_until_they_are_forgotten(installation: Installation) -> None:
    installation.write_csv("a.csv", ["P1", "P2", "P3"])
    installation.write_csv("b.csv", ["P1"])
    installation.configure(csv_source("a", "a.csv"), csv_source("b", "b.csv"))
    installation.start()
    wait_until(lambda: installation.patients() == ["P1", "P2", "P3"], "all are served")

    installation.configure(csv_source("a", "a.csv", enabled=False), csv_source("b", "b.csv"))
    assert installation.command("reload").returncode == 0
    listed = wait_until(
        lambda: installation.process("a").get("only_items") == 2 and installation.process("a"), "listed"
    )
    assert listed["state"] == "DISABLED"
    installation.wait_for_log("source a is not enabled.*pylantir forget a")
    installation.write_csv("b.csv", [])
    wait_until(lambda: "held back" in str(installation.process("b").get("last_error")), "an empty file is held")
    assert pylantir(installation, "accept", "b").returncode == 0
    assert installation.patients() == ["P2", "P3"]

    installation.configure(csv_source("b", "b.csv"))
    assert installation.command("reload").returncode == 0
    wait_until(lambda: installation.process("a").get("state") == "NOT CONFIGURED", "listed as not configured")
    tried = pylantir(installation, "forget", "a", "--dry-run")
    assert (tried.returncode, "2 items would be cancelled" in tried.stdout) == (0, True)
    assert pylantir(installation, "forget", "a").returncode == 0
    assert installation.patients() == []
    wait_until(lambda: not installation.process("a"), "no longer listed")


def test_set_status_succeeds_only_if_the_item_keeps_the_status(installation: Installation) -> None:
    installation.write_csv("a.csv", ["P1", "P2", "P3", "P4"])
    installation.configure(csv_source("a", "a.csv"))
    installation.start()
    wait_until(lambda: len(installation.patients()) == 4, "all are served")
    installation.write_csv("a.csv", ["P2", "P3", "P4"])
    wait_until(lambda: installation.patients() == ["P2", "P3", "P4"], "the first has gone")
    ((item,),) = installation.rows("select id from worklist_items where patient_id = 'P1'")
    refused = pylantir(installation, "set-status", str(item), "SCHEDULED", "--reason", "please")
    assert refused.returncode == 1
    assert f"item {item} stays CANCELED: no source gives it" in refused.stderr
    assert installation.patients() == ["P2", "P3", "P4"]
    assert pylantir(installation, "set-status", str(item), "COMPLETED", "--reason", "done").returncode == 0


def test_a_list_that_is_fetched_once_a_day_and_replaced_each_day_needs_nobody(
    installation: Installation, findscu: str
) -> None:
    def read(day: int) -> None:
        before = len(installation.runs("a"))
        installation.write_csv("a.csv", lists[day])
        ask_supervisor(installation.runtime_dir, {"command": "sync", "name": "a"}, 60)
        wait_until(lambda: len(installation.runs("a")) > before, "the list is read")

    lists = [[f"D{day}N{n}" for n in range(8)] for day in range(5)]
    installation.write_csv("a.csv", lists[0])
    installation.configure(csv_source("a", "a.csv", sync_interval=86400))
    installation.start()
    wait_until(lambda: installation.runs("a"), "the first list is read")
    for day in range(1, 5):
        read(day)
        assert installation.patients() == sorted(lists[day - 1] + lists[day])
        # A day passes.
        with closing(sqlite3.connect(installation.database, timeout=120)) as connection, connection:
            earlier = (datetime.now(UTC) - timedelta(days=1)).isoformat(timespec="microseconds")
            connection.execute("update source_entries set held_since = ? where held_since is not null", [earlier])
    read(4)
    assert sorted(one["PatientID"] for one in installation.find(findscu)) == lists[4]
    wait_until(lambda: installation.status().get("health") == "healthy", "nothing is held any more")
