"""Stopping, killing and freezing: whatever happens to a process, nothing is left behind and nobody hangs."""

from __future__ import annotations

import datetime
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from installation import PATIENT_COMMAND, Installation, csv_source, end_with_parent, plugin_source, wait_until

from workers.child.producer import WINDOW
from workers.source.batches import FIRST_BATCH_RECORDS

LARGE = """\
import itertools, os
from pylantir.data_sources.base import DataSourcePlugin

class Plugin(DataSourcePlugin):
    def validate_config(self, config):
        return True, ""

    def get_source_name(self):
        return "records without end, or as many as a file says; and how many of them were asked for"

    def fetch_entries(self, field_mapping, interval):
        numbers = itertools.count()
        if os.path.exists("wanted"):
            with open("wanted") as file:
                numbers = range(int(file.read()))
        given = os.open("given", os.O_WRONLY | os.O_CREAT, 0o600)
        for number in numbers:
            os.pwrite(given, b"%08d" % number, 0)
            yield {"patient_id": f"P{number:08d}", "scheduled_start_date": "2030-01-01"}
"""

STARTS_PROCESSES = """\
import os, subprocess, time
from pylantir.data_sources.base import DataSourcePlugin

def daemon():
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if (pid := os.fork()) == 0:
            time.sleep(3600)
        os.write(writer, str(pid).encode())
        os._exit(0)
    pid = int(os.read(reader, 99))
    os.wait()
    return pid

def forked():
    if (pid := os.fork()) == 0:
        time.sleep(3600)
    return pid

class Plugin(DataSourcePlugin):
    has_started = False

    def validate_config(self, config):
        with open("checked", "a") as file:
            print(forked(), file=file)
        return True, ""

    def get_source_name(self):
        return "starts processes, and ends none"

    def fetch_entries(self, field_mapping, interval):
        if not self.has_started:
            self.has_started = True
            stubborn = "trap '' TERM; sleep 3600; sleep 3600"
            pids = [
                subprocess.Popen(["sleep", "3600"]).pid,
                subprocess.Popen(["sleep", "3600"], start_new_session=True).pid,
                subprocess.Popen(["sh", "-c", stubborn], start_new_session=True).pid,
                forked(),
                daemon(),
            ]
            with open("started.part", "w") as file:
                file.write(" ".join(map(str, pids)))
            os.rename("started.part", f"started.{os.getpid()}")
        return [{"patient_id": "X1", "scheduled_start_date": "2030-01-01"}]
"""


def slow_installation(installation: Installation) -> Installation:
    """One quick source, one in the middle of an endless fetch."""
    installation.write_csv("a.csv", ["P1"])
    installation.write_plugin("endless", fetch="open('fetching', 'w').close(); time.sleep(3600)")
    installation.configure(csv_source("a", "a.csv"), plugin_source("endless"))
    return installation


def holds_back_sigterm(pid: int) -> bool:
    """Whether SIGTERM is blocked, or has its handler already."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    sets = dict(line.split(":\t") for line in lines if line.startswith("Sig"))
    return any(int(sets[name], 16) >> (signal.SIGTERM - 1) & 1 for name in ("SigBlk", "SigCgt"))


def assert_stopped(installation: Installation, *, writer_was_last: bool = True) -> None:
    # multiprocessing's tracker ends by itself, a moment after the supervisor.
    wait_until(lambda: not installation.live_processes(), "no process is left")
    assert installation.leftovers(writer_was_last=writer_was_last) == []


@pytest.mark.parametrize(
    ("send", "number"), [(os.kill, signal.SIGTERM), (os.killpg, signal.SIGQUIT)], ids=["service manager", "terminal"]
)
def test_a_signal_stops_everything_in_order_and_one_without_a_meaning_stops_nothing(
    installation: Installation, send: Callable[[int, int], None], number: signal.Signals
) -> None:
    installation.write_csv("a.csv", ["P1"])
    installation.configure(csv_source("a", "a.csv"))
    supervisor = installation.start(program=PATIENT_COMMAND)
    for meaningless in (signal.SIGUSR1, signal.SIGUSR2):
        os.killpg(supervisor.pid, meaningless)
        installation.wait_for_log(f"{meaningless.name}: means nothing here")
    send(supervisor.pid, number)
    assert supervisor.wait(120) == 0
    assert_stopped(installation)
    endings = [line for line in installation.log().splitlines() if "has ended (status 0)" in line]
    assert len(endings) == 3
    assert " writer has ended" in endings[-1]


def test_a_stop_ends_what_ignores_it(installation: Installation) -> None:
    slow_installation(installation).start(until=None)
    wait_until((installation.folder / "fetching").exists, "the fetch has begun")
    wait_until(lambda: installation.patients() == ["P1"], "the other source's entry")
    for name in ("a", "writer", "mwl-scp"):
        os.kill(installation.process(name)["pid"], signal.SIGSTOP)
    assert installation.terminate() == 0
    for name in ("a", "writer", "mwl-scp"):
        assert re.search(rf"{name} \(pid \d+\) does not end; it is killed", installation.log())
    wait_until(lambda: not installation.live_processes(), "no process is left")


def test_a_second_signal_hurries(installation: Installation) -> None:
    supervisor = slow_installation(installation).start(until=None, program=PATIENT_COMMAND)
    wait_until((installation.folder / "fetching").exists, "the fetch has begun")
    supervisor.send_signal(signal.SIGTERM)
    installation.wait_for_log("SIGTERM: stopping")
    supervisor.send_signal(signal.SIGTERM)
    assert supervisor.wait(120) == 0
    assert "endless has ended (signal SIGKILL)" in installation.log()
    assert "does not end" not in installation.log()
    assert_stopped(installation)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_whole_group_stops_in_order_and_is_told_as_no_crash(
    installation: Installation, number: signal.Signals
) -> None:
    """SIGINT comes from Ctrl-C in a terminal, SIGTERM from service managers."""
    installation.write_csv("a.csv", ["P1"])
    installation.configure(csv_source("a", "a.csv"))
    supervisor = installation.start(program=PATIENT_COMMAND)
    os.killpg(supervisor.pid, number)
    assert supervisor.wait(120) == 0
    assert_stopped(installation, writer_was_last=number == signal.SIGINT)
    log = installation.log()
    assert "supervisor: stopped" in log
    assert " WARNING " not in log, log
    assert " ERROR " not in log, log


@pytest.mark.parametrize("stage", ["imports", "check", "serving", "writer: ", "cycle done"])
def test_a_signal_during_the_start_stops(installation: Installation, stage: str) -> None:
    installation.write_csv("a.csv", ["P1"])
    slow = "open('checking', 'w').close(); time.sleep(2)"
    installation.write_plugin("b", check=slow if stage == "check" else "pass")
    installation.configure(csv_source("a", "a.csv"), plugin_source("b"))
    supervisor = installation.start(until=None, program=PATIENT_COMMAND)
    if stage == "imports":
        wait_until(lambda: holds_back_sigterm(supervisor.pid), "the modules are being loaded")
    elif stage == "check":
        wait_until((installation.folder / "checking").exists, "the check")
    else:
        installation.wait_for_log(stage)
    supervisor.send_signal(signal.SIGTERM)
    assert supervisor.wait(120) == 0
    assert_stopped(installation)


def test_a_signal_during_a_backoff_stops(installation: Installation) -> None:
    installation.write_plugin("crashing", fetch="os._exit(9)")
    installation.configure(plugin_source("crashing"))
    installation.start(until=None)
    wait_until(lambda: (installation.process("crashing").get("retry_in_s") or 0) > 0.5, "a pause between two starts")
    assert installation.terminate() == 0
    assert_stopped(installation)


def test_a_killed_supervisor_leaves_no_orphan_and_a_new_one_starts_at_once(installation: Installation) -> None:
    supervisor = slow_installation(installation).start(until=None)
    wait_until((installation.folder / "fetching").exists, "the fetch has begun")
    wait_until(lambda: installation.patients() == ["P1"], "the other source's entry")
    os.kill(installation.process("a")["pid"], signal.SIGSTOP)
    supervisor.kill()
    supervisor.wait(120)
    wait_until(lambda: installation.live_processes() == {}, "no process is left")
    assert installation.command("status").returncode == 3
    assert installation.command("stop").returncode == 3

    installation.write_csv("a.csv", ["P1", "P2"])
    installation.start(until=None)
    wait_until(lambda: installation.patients() == ["P1", "P2"], "the new instance works")


def test_a_new_start_right_after_the_supervisors_death_gets_the_lock(installation: Installation) -> None:
    supervisor = slow_installation(installation).start(until=None)
    wait_until((installation.folder / "fetching").exists, "the fetch has begun")
    wait_until(lambda: installation.patients() == ["P1"], "the other source's entry")
    os.kill(installation.process("a")["pid"], signal.SIGSTOP)
    former = [process["pid"] for process in installation.status()["processes"]]
    supervisor.kill()
    installation.write_csv("a.csv", ["P1", "P2"])
    installation.start(until=None)
    wait_until(lambda: not set(former[1:]) & set(installation.live_processes()), "the old family is gone")
    wait_until(lambda: installation.patients() == ["P1", "P2"], "the new instance works")
    assert installation.supervisor.poll() is None  # type: ignore[union-attr]


def test_a_source_that_hangs_is_replaced_with_its_traceback_in_the_log(installation: Installation) -> None:
    installation.write_csv("a.csv", ["P1"])
    installation.write_plugin("hanging", fetch="time.sleep(3600)")
    installation.configure(csv_source("a", "a.csv"), plugin_source("hanging", fetch_timeout=1))
    installation.start(until=None)
    first = wait_until(lambda: installation.process("hanging").get("pid"), "its process")
    installation.wait_for_log(r"hanging \(pid \d+\) gives no sign of life")
    installation.wait_for_log(r"plugins/hanging\.py\", line \d+ in fetch_entries")
    installation.wait_for_successor("hanging", first)
    assert installation.process("a")["restarts"] == 0
    installation.wait_for_health("degraded")
    # On a busy machine one may be killed before it has written its traceback; there are others.
    wait_until(lambda: "SIGABRT" in installation.process("hanging")["last_exit"], "one ends by itself")


def test_a_frozen_source_delays_nobody(installation: Installation) -> None:
    installation.write_csv("a.csv", ["P1"])
    installation.write_csv("b.csv", [f"Q{number}" for number in range(3000)])
    installation.configure(csv_source("a", "a.csv"), csv_source("b", "b.csv"))
    installation.start()
    os.kill(installation.process("b")["pid"], signal.SIGSTOP)
    before = len(installation.runs("a"))
    wait_until(lambda: len(installation.runs("a")) >= before + 3, "the other source goes on")
    assert installation.terminate() == 0
    assert_stopped(installation)


def test_a_stop_in_a_large_sync_loses_nothing_received_and_the_next_start_fetches_the_rest(
    installation: Installation,
) -> None:
    path = installation.write_plugin("large")
    path.write_text(LARGE, encoding="utf-8")
    installation.configure(plugin_source("large"))
    installation.start(until=None, program=PATIENT_COMMAND)
    wait_until(lambda: len(installation.patients()) > 20_000, "the sync is on its way")
    assert installation.terminate() == 0
    assert_stopped(installation)
    stored = len(installation.patients())
    assert installation.patients() == [f"P{number:08d}" for number in range(stored)]
    assert installation.rows("pragma integrity_check") == [("ok",)]
    # The plugin was asked for more only while less than a window was not acknowledged.
    given = int((installation.folder / "given").read_text(encoding="ascii"))
    assert stored >= given - WINDOW * FIRST_BATCH_RECORDS

    (installation.folder / "wanted").write_text(str(stored + 1000), encoding="ascii")
    installation.start()
    assert len(installation.patients()) == stored + 1000
    (interrupted, *_) = installation.rows("select error, fetched from sync_runs order by id")
    assert interrupted[1] == stored
    assert "interrupted" in interrupted[0]


def test_a_server_that_answers_nobody_is_replaced(installation: Installation, findscu: str) -> None:
    installation.write_csv("a.csv", ["P1"])
    installation.configure(csv_source("a", "a.csv"), allowed_aet=["MRI_SCANNER"])
    installation.start()
    first = installation.process("mwl-scp")["pid"]
    os.kill(first, signal.SIGSTOP)
    installation.wait_for_log(r"mwl-scp \(pid \d+\) does not answer a C-ECHO")
    installation.wait_for_successor("mwl-scp", first)
    assert installation.find(findscu) == [{"PatientID": "P1"}]


def hung_in_its_fetch(installation: Installation, name: str) -> tuple[str, float] | None:
    """When a process of a source was found hanging, and when its fetch had begun."""
    for moment, pid in re.findall(rf"(\S+) .*{name} \(pid (\d+)\) gives no sign of life", installation.log()):
        note = installation.folder / f"began-{pid}"
        # Between its start and its fetch, or in the writing of the note, it may have stood still as well.
        if note.exists() and (began := note.read_text(encoding="ascii")):
            return moment, float(began)
    return None


def test_every_kind_of_hang_is_found_and_told(installation: Installation) -> None:
    installation.write_csv("a.csv", ["P1"])
    hangs = {
        "sleeps": "time.sleep(3600)",
        "spins": "[None for _ in iter(int, 1)]",
        "computes": "9 ** 99_999_999",
        "waits": "__import__('ctypes').CDLL(None).sleep(3600)",
    }
    note = "open(f'began-{os.getpid()}', 'w').write(str(time.time()))"
    for name, fetch in hangs.items():
        installation.write_plugin(name, fetch=f"{note}; {fetch}")
    installation.write_plugin("stopped", fetch=f"{note}; os.kill(os.getpid(), 19)")
    names = (*hangs, "stopped")
    installation.configure(csv_source("a", "a.csv"), *(plugin_source(name, fetch_timeout=1) for name in names))
    installation.start(until=None)
    for name in names:
        found_at, began = wait_until(lambda n=name: hung_in_its_fetch(installation, n), f"{name} is found")
        assert datetime.datetime.fromisoformat(found_at).timestamp() - began < 30
        wait_until(lambda n=name: installation.process(n)["restarts"] >= 1, f"{name} is replaced")
    for name in hangs:
        installation.wait_for_log(rf"plugins/{name}\.py\", line \d+ in fetch_entries")
    assert installation.process("a")["restarts"] == 0
    assert installation.terminate() == 0


def test_a_busy_machine_is_not_taken_for_a_hang(installation: Installation) -> None:
    installation.write_csv("a.csv", ["P1"])
    installation.write_plugin("steady", fetch="[time.sleep(1)]", patient="S1")
    installation.configure(csv_source("a", "a.csv"), plugin_source("steady", fetch_timeout=8))
    burners = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"], preexec_fn=end_with_parent)  # noqa: PLW1509
        for _ in range(2 * (os.cpu_count() or 1))
    ]
    try:
        installation.start()
        wait_until(lambda: len(installation.runs("steady")) >= 4, "four cycles")
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()
    assert "no sign of life" not in installation.log()
    assert {process["restarts"] for process in installation.status()["processes"]} == {0}


def test_many_restarts_leave_nothing_behind_in_the_supervisor(installation: Installation) -> None:
    installation.write_csv("a.csv", ["P1"])
    installation.configure(csv_source("a", "a.csv"))
    supervisor = psutil.Process(installation.start().pid)

    def replace() -> None:
        pid = installation.process("a")["pid"]
        os.kill(pid, signal.SIGKILL)
        if (installation.process("a")["retry_in_s"] or 0) > 0.5:
            installation.command("restart", "a")
        installation.wait_for_successor("a", pid)

    replace()
    before = supervisor.num_fds()
    for _ in range(6):
        replace()
    wait_until(lambda: supervisor.num_fds() <= before, lambda: f"{before} descriptors: {supervisor.num_fds()}")
    assert [one.pid for one in supervisor.children() if one.status() == psutil.STATUS_ZOMBIE] == []


def alive(pids: list[int]) -> list[int]:
    found = []
    for pid in pids:
        with suppress(psutil.Error):
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                found.append(pid)
    return found


def test_what_a_plugin_starts_ends_with_its_worker_and_at_the_stop(installation: Installation) -> None:
    path = installation.folder / "plugins" / "starts.py"
    path.parent.mkdir()
    path.write_text(STARTS_PROCESSES, encoding="utf-8")
    installation.configure(plugin_source("starts"))
    installation.start()

    def started_by(worker: int) -> list[int]:
        note = installation.folder / f"started.{worker}"
        wait_until(note.exists, "the plugin has started its processes")
        return [int(pid) for pid in note.read_text(encoding="ascii").split()]

    worker = installation.process("starts")["pid"]
    *children, daemon = started_by(worker)
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: not alive(children), lambda: f"ended with their worker: {alive(children)} of {children}")
    installation.wait_for_log(r"starts has left \d+ processes of its plugin behind; they are ended")
    second = started_by(installation.wait_for_successor("starts", worker))
    assert installation.terminate() == 0
    assert_stopped(installation)
    checked = [int(pid) for pid in (installation.folder / "checked").read_text(encoding="ascii").split()]
    everybody = [*children, daemon, *second, *checked]
    wait_until(lambda: not alive(everybody), lambda: f"ended: {alive(everybody)} of {everybody}")
