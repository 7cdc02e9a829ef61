"""Memory ceilings, restart counts, and what a reload takes for changed."""

from __future__ import annotations

import datetime
import signal
from typing import Any

from installation import Installation, csv_source, plugin_source, wait_until

GROWS = "self.held = getattr(self, 'held', b'') + b'x' * {mb} * 2**20"


def test_a_source_over_its_ceiling_is_recycled_and_keeps_its_timetable(installation: Installation) -> None:
    installation.write_plugin("grows", fetch=GROWS.format(mb=20), patient="P1")
    installation.configure(plugin_source("grows", max_memory_mb=50, sync_interval=3600))
    installation.start()

    def settled() -> dict[str, Any] | None:
        """Its process, unless that is large and about to be replaced."""
        source = installation.process("grows")
        is_successor = source["ready"] and source["restarts"] == source["recycled"]
        return source if is_successor and source["memory_mb"] < 50 else None

    asked = 1
    while (source := wait_until(settled, "a process of the source that stays"))["recycled"] < 2:
        assert installation.command("sync", "grows").returncode == 0
        asked += 1
        wait_until(lambda wanted=asked: len(installation.runs("grows")) >= wanted, "the fetch that was asked for")
    assert source["max_memory_mb"] == 50
    assert source["last_error"] is None
    assert "unexpectedly" not in installation.log()
    # No process has fetched because it was new.
    due = datetime.datetime.fromisoformat(installation.process("grows")["next_sync"])
    assert due > datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=30)
    assert installation.terminate() == 0
    assert len(installation.runs("grows")) == asked
    assert installation.patients() == ["P1"]


def test_a_source_far_over_its_ceiling_is_killed_in_the_middle_of_a_fetch(installation: Installation) -> None:
    installation.write_csv("a.csv", ["P1"])
    installation.write_plugin("explodes", fetch="held = b'x' * 200 * 2**20; time.sleep(3600)")
    installation.configure(
        csv_source("a", "a.csv"), plugin_source("explodes", max_memory_mb=50, max_restarts=1, fetch_timeout=600)
    )
    installation.start(until=None)
    installation.wait_for_log(r"explodes holds \d+ MB, more than max_memory_mb \(50\); it is killed")
    installation.wait_for_log(r"explodes has been restarted 2 times, more than max_restarts \(1\)")
    assert installation.process("explodes")["last_exit"] == "signal SIGKILL"
    assert installation.process("a")["restarts"] == 0
    assert installation.terminate() == 0


def test_a_reload_restarts_a_changed_plugin_and_a_fatal_source_and_nobody_else(installation: Installation) -> None:
    installation.write_csv("a.csv", ["P1"])
    installation.write_plugin("changes", patient="X1")
    installation.write_plugin("same", patient="Y1")
    installation.write_plugin("picky", patient="Z1", check="if os.path.exists('no'): return False, 'not now'")
    names = ("changes", "same", "picky")
    installation.configure(csv_source("a", "a.csv"), *(plugin_source(name) for name in names))
    installation.start()
    (installation.folder / "no").touch()
    installation.command("restart", "picky")
    wait_until(lambda: installation.process("picky")["state"] == "FATAL", "a source that refuses its configuration")
    (installation.folder / "no").unlink()
    pids = {name: installation.process(name)["pid"] for name in ("writer", "mwl-scp", "a", "same")}
    changed = installation.process("changes")["pid"]

    installation.write_plugin("changes", patient="X2")
    reloaded = installation.command("reload")
    assert reloaded.returncode == 0, reloaded.stderr
    installation.wait_for_successor("changes", changed)
    wait_until(lambda: installation.patients() == ["P1", "X2", "Y1", "Z1"], "the changed plugin's entry")
    installation.wait_for_health("healthy")
    assert {name: installation.process(name)["pid"] for name in pids} == pids


def test_a_change_during_a_reload_is_taken_over_as_well(installation: Installation) -> None:
    installation.write_csv("a.csv", ["P1"])
    installation.write_csv("b.csv", ["P2"])
    installation.configure(csv_source("a", "a.csv"))
    supervisor = installation.start()
    supervisor.send_signal(signal.SIGHUP)
    installation.wait_for_log("reading the configuration again")
    installation.configure(csv_source("a", "a.csv"), csv_source("b", "b.csv"))
    assert installation.command("reload").returncode == 0
    assert installation.process("b")
    wait_until(lambda: installation.patients() == ["P1", "P2"], "the new source's entry")
