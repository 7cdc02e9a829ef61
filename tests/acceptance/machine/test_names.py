"""Names that are swept away while everything runs: sockets, the runtime folder with its lock, the log."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable

import pytest
from installation import Installation, csv_source, wait_until


@pytest.fixture
def running(installation: Installation) -> Installation:
    installation.write_csv("a.csv", ["P1"])
    installation.configure(csv_source("a", "a.csv"))
    installation.start()
    return installation


def sweep_sockets(installation: Installation) -> None:
    for path in installation.runtime_dir.glob("*.sock"):
        path.unlink()


def sweep_lock(installation: Installation) -> None:
    (installation.runtime_dir / "supervisor.lock").unlink(missing_ok=True)


def sweep_folder(installation: Installation) -> None:
    shutil.rmtree(installation.runtime_dir, ignore_errors=True)


def sweep_everything(installation: Installation) -> None:
    shutil.rmtree(installation.runtime_dir, ignore_errors=True)
    # Whoever uses it may make it again meanwhile.
    shutil.rmtree(installation.folder / "tmp", ignore_errors=True)
    (installation.folder / "tmp").mkdir(exist_ok=True)


@pytest.mark.parametrize("sweep", [sweep_sockets, sweep_lock, sweep_folder, sweep_everything])
def test_an_instance_whose_names_were_swept_away_is_found_and_starts_no_second_time(
    running: Installation, sweep: Callable[[Installation], None]
) -> None:
    assert running.supervisor
    with running.standing_still("supervisor"):
        sweep(running)
        second = running.command("start")
    assert second.returncode == 73
    assert str(running.supervisor.pid) in second.stderr
    running.wait_for_health("healthy")
    sweep(running)
    # It looks after its names every few seconds; a command waits for that, but not for ever.
    wait_until(lambda: (status := running.command("status")).returncode in {0, 1} and "writer" in status.stdout)
    sweep(running)
    wait_until(lambda: (stopped := running.command("stop")).returncode == 0 and stopped.stdout == "stopped\n")
    wait_until(lambda: not running.live_processes(), "no process is left")
    assert running.leftovers(writer_was_last=False) == []


def test_after_a_sweep_and_a_crash_of_everybody_everything_comes_back(running: Installation) -> None:
    writer = running.process("writer")["pid"]
    sweep_folder(running)
    running.wait_for_log(r"entries\.sock was removed; it is made anew")
    running.wait_for_successor("writer", writer)
    wait_until(lambda: running.status().get("health") == "healthy", "it is healthy again")
    for name in ("writer", "a"):
        pid = running.process(name)["pid"]
        os.kill(pid, signal.SIGKILL)
        running.wait_for_successor(name, pid)
    running.write_csv("a.csv", ["P1", "P2"])
    wait_until(lambda: running.patients() == ["P1", "P2"], "the next fetch is stored")


def test_a_folder_that_cannot_be_made_anew_is_told_and_stop_works_all_the_same(running: Installation) -> None:
    with running.standing_still("supervisor"):
        sweep_folder(running)
        running.runtime_dir.write_text("somebody's file")
    running.wait_for_log("do not find this instance")
    running.write_csv("a.csv", ["P1", "P2"])
    wait_until(lambda: running.patients() == ["P1", "P2"], "what is connected goes on")
    assert running.command("stop").returncode == 0
    assert running.runtime_dir.read_text() == "somebody's file"


def test_a_source_that_cannot_reach_the_writer_says_so(running: Installation) -> None:
    writer = running.process("writer")["pid"]
    with running.standing_still("supervisor"):
        sweep_folder(running)
        running.runtime_dir.write_text("somebody's file")
    running.wait_for_log("do not find this instance")
    os.kill(writer, signal.SIGKILL)
    running.wait_for_log(r"source a: the writer cannot be reached at .*entries\.sock")
