"""Names that are swept away while everything runs: sockets, the runtime folder with its lock, the log."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

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
    shutil.rmtree(installation.folder / "tmp")
    (installation.folder / "tmp").mkdir()


@pytest.mark.parametrize("sweep", [sweep_sockets, sweep_lock, sweep_folder, sweep_everything])
def test_an_instance_whose_names_were_swept_away_is_found_and_starts_no_second_time(
    running: Installation, sweep: Callable[[Installation], None]
) -> None:
    assert running.supervisor
    os.kill(running.supervisor.pid, signal.SIGSTOP)
    try:
        sweep(running)
        second = running.command("start")
    finally:
        os.kill(running.supervisor.pid, signal.SIGCONT)
    assert second.returncode == 73
    assert str(running.supervisor.pid) in second.stderr
    running.wait_for_health("healthy")
    sweep(running)
    status = running.command("status")
    assert status.returncode in {0, 1}, status.stderr
    assert "writer" in status.stdout
    sweep(running)
    stopped = running.command("stop")
    assert (stopped.returncode, stopped.stdout) == (0, "stopped\n")
    wait_until(lambda: not running.live_processes(), "no process is left")
    assert running.leftovers(writer_was_last=False) == []


def test_after_a_sweep_and_a_crash_of_everybody_everything_comes_back(running: Installation) -> None:
    sweep_folder(running)
    running.wait_for_log(r"entries\.sock was removed; it is made anew")
    wait_until(lambda: running.status().get("health") == "healthy", "it is healthy again")
    for name in ("writer", "a"):
        pid = running.process(name)["pid"]
        os.kill(pid, signal.SIGKILL)
        running.wait_for_successor(name, pid)
    running.write_csv("a.csv", ["P1", "P2"])
    wait_until(lambda: running.patients() == ["P1", "P2"], "the next fetch is stored")


def test_a_folder_that_cannot_be_made_anew_is_told_and_stop_works_all_the_same(running: Installation) -> None:
    sweep_folder(running)
    running.runtime_dir.write_text("somebody's file")
    running.wait_for_log("do not find this instance")
    running.write_csv("a.csv", ["P1", "P2"])
    wait_until(lambda: running.patients() == ["P1", "P2"], "what is connected goes on")
    assert running.command("stop").returncode == 0
    assert running.runtime_dir.read_text() == "somebody's file"


def test_a_source_that_cannot_reach_the_writer_says_so(running: Installation) -> None:
    sweep_folder(running)
    Path(running.runtime_dir).write_text("somebody's file")
    running.wait_for_log("do not find this instance")
    for pid, command in running.live_processes().items():
        if command.startswith("pylantir: writer"):
            os.kill(pid, signal.SIGKILL)
    running.wait_for_log(r"source a: the writer cannot be reached at .*entries\.sock")
