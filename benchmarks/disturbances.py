"""What a neighbour's trouble costs: a busy machine, plugins that hang, a source that crashes again and again.

python benchmarks/disturbances.py [hangs] [crashes] [crash-log] [busy] [--minutes 10]
"""

from __future__ import annotations

import argparse
import os
import re
import sqlite3
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime

from observing import choose, empty_installation, show

# isort: split
from installation import Installation, csv_source, end_with_parent, plugin_source, wait_until
from pydicom.dataset import Dataset
from raw_scanner import RawScanner
from sync import MAPPING, write_rows

from pylantir.ipc.control import ask_supervisor

FETCH_TIMEOUT_S = 1
HANGS = {
    "sleeps": "time.sleep(3600)",
    "spins": "[None for _ in iter(int, 1)]",
    "computes": "9 ** 99_999_999",
    "waits": "__import__('ctypes').CDLL(None).sleep(3600)",
    "stopped": "os.kill(os.getpid(), 19)",
}
STEADY = """\
import time
from pylantir.data_sources.base import DataSourcePlugin

class Plugin(DataSourcePlugin):
    def validate_config(self, config):
        return True, ""

    def get_source_name(self):
        return "takes its time, within its limit"

    def fetch_entries(self, field_mapping, interval):
        for number in range(6):
            time.sleep(0.7)
            yield {"patient_id": f"S{number}", "scheduled_start_date": "2030-01-01", "source_record_id": str(number)}
"""


class Asking:
    """A scanner that asks for the worklist without end, in an association of its own each time."""

    def __init__(self, port: int, pause_s: float = 0.2) -> None:
        self.times: list[float] = []
        self.failures: list[str] = []
        self._port, self._pause_s = port, pause_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Asking:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(60)

    def _run(self) -> None:
        wanted = Dataset()
        wanted.PatientID = "P1"
        while not self._over.wait(self._pause_s):
            began = time.monotonic()
            try:
                scanner = RawScanner(self._port)
                matches, status = scanner.find(wanted)
                scanner.release()
                if (len(matches), status) != (1, 0):
                    self.failures.append(f"{len(matches)} matches, status {status:04X}")
            except (OSError, AssertionError) as error:
                self.failures.append(repr(error))
            self.times.append(time.monotonic() - began)


@contextmanager
def burning(processes: int) -> Iterator[None]:
    """Keep the machine's processors busy."""
    code = "while True: pass"
    burners = [
        subprocess.Popen([sys.executable, "-c", code], preexec_fn=end_with_parent)  # noqa: PLW1509 - no thread yet
        for _ in range(processes)
    ]
    try:
        yield
    finally:
        for one in burners:
            one.kill()
            one.wait()


def measure_busy(minutes: float) -> None:
    """Count what is taken for a hang, or fails, while twice as many programs as processors burn all their time."""
    with empty_installation() as installation:
        installation.write_csv("a.csv", ["P1", "P2"])
        installation.write_plugin("steady").write_text(STEADY, encoding="utf-8")
        installation.configure(
            csv_source("a", "a.csv", config={"file_path": "a.csv", "watch_for_changes": True}),
            plugin_source("steady", fetch_timeout=FETCH_TIMEOUT_S),
        )
        burners = 2 * (os.cpu_count() or 1)
        installation.start()
        with burning(burners), Asking(installation.port) as asking:
            deadline = time.monotonic() + 60 * minutes
            statuses = []
            while time.monotonic() < deadline:
                began = time.monotonic()
                assert installation.status()
                statuses.append(time.monotonic() - began)
                time.sleep(1)
        restarts = {one["name"]: one["restarts"] for one in installation.status()["processes"]}
        alarms = len(re.findall(r"gives no sign of life|does not answer a C-ECHO", installation.log()))
        cycles = {name: len(installation.runs(name)) for name in ("a", "steady")}
        installation.terminate(30)
    print(f"{minutes:g} minutes beside {burners} busy loops: {alarms} taken for hanging, restarts {restarts}")
    print(f"cycles done {cycles}; {len(asking.times)} queries, {len(asking.failures)} failed {asking.failures[:3]}")
    show("query", asking.times)
    show("status", statuses)


def measure_hangs(rounds: int) -> None:
    """Let plugins hang in every way, and see when that is noticed, and when the process has ended."""
    for name, fetch in HANGS.items():
        with empty_installation() as installation:
            note = f"open('began-%d' % os.getpid(), 'w').write(str(time.time())); {fetch}"
            installation.write_plugin(name, fetch=note)
            installation.configure(plugin_source(name, fetch_timeout=FETCH_TIMEOUT_S))
            installation.start(until=None)
            found, ended = [], []
            for _ in range(rounds):
                pid = wait_for_hang(installation, name)
                alarm = wait_until(lambda p=pid: alarm_about(installation, p), "the alarm", 60)
                found.append(alarm - began_at(installation, pid))
                wait_until(lambda n=name, p=pid: installation.process(n)["pid"] != p, "its end")
                ended.append(time.time() - alarm)
            installation.terminate(15)
        show(f"a plugin that {name}: from the start of its fetch", found)
        show(f"a plugin that {name}: from there to its end", ended)
    print(f"(its limit, fetch_timeout, was {FETCH_TIMEOUT_S} s)", flush=True)


def began_at(installation: Installation, pid: int) -> float:
    """When the fetch of a process began, on the wall clock."""
    return float((installation.folder / f"began-{pid}").read_text(encoding="ascii"))


def wait_for_hang(installation: Installation, name: str) -> int:
    """Wait until a process has begun its fetch; an operator's word saves it the pause after many crashes."""

    def hanging() -> int | None:
        process = installation.process(name)
        if process.get("retry_in_s"):
            ask_supervisor(installation.runtime_dir, {"command": "restart", "name": name})
        note = installation.folder / f"began-{process.get('pid')}"
        has_begun = note.exists() and note.read_text(encoding="ascii")
        return int(process["pid"]) if has_begun and not alarm_about(installation, process["pid"]) else None

    return int(wait_until(hanging, "a fetch", 30))


def alarm_about(installation: Installation, pid: int) -> float | None:
    """When a process was said to give no sign of life, by the time in the log."""
    found = re.search(rf"^(\S+) .*\(pid {pid}\) gives no sign of life", installation.log(), re.MULTILINE)
    return datetime.fromisoformat(found[1]).timestamp() if found else None


def seconds_of_first_sync(rows: int, *, crashing: bool) -> float:
    """Let a new instance read a large file, alone or beside a source that crashes at every fetch."""
    with empty_installation() as installation:
        write_rows(installation.folder / "large.csv", rows)
        installation.write_plugin("crashing", fetch="os._exit(9)")
        installation.configure(
            csv_source("large", "large.csv", sync_interval=3600, field_mapping=MAPPING),
            plugin_source("crashing", enabled=crashing),
        )
        installation.start(until=None)
        (cycle,) = wait_until(lambda: finished_cycles(installation), "the sync", 300)
        if crashing:
            assert installation.process("crashing")["restarts"] > 0
        installation.terminate()
    started, finished = (datetime.fromisoformat(one) for one in cycle)
    return (finished - started).total_seconds()


def finished_cycles(installation: Installation) -> list[tuple[str, str]]:
    """The start and the end of every cycle that went well."""
    with suppress(sqlite3.OperationalError):
        return installation.rows("select started_at, finished_at from sync_runs where error is null")
    return []


def measure_crashes(pairs: int, rows: int) -> None:
    """Compare the speed of a sync without and with a neighbour that has begun to crash again and again."""
    alone, beside = [], []
    for _ in range(pairs):
        alone.append(seconds_of_first_sync(rows, crashing=False))
        beside.append(seconds_of_first_sync(rows, crashing=True))
    show(f"first sync of {rows} rows", alone)
    show("… while another source crashes from its start on", beside)
    ratio = statistics.median(alone) / statistics.median(beside)
    print(f"throughput beside it: {100 * ratio:.1f} % of what it is alone (medians, in alternation)", flush=True)


def lines_about_it(installation: Installation) -> int:
    """How many lines of the log neither the server nor the good source has written."""
    others = re.compile(r"^\S+ \S+ +(mwl-scp|source a|a): ", re.MULTILINE)
    log = installation.log()
    return log.count("\n") - len(others.findall(log))


def measure_crash_log(minutes: float) -> None:
    """Count the lines that a source writes that crashes without end, and the queries that fail meanwhile."""
    with empty_installation() as installation:
        installation.write_csv("a.csv", ["P1", "P2"])
        installation.write_plugin("crashing", fetch="raise SystemExit(1)", check="print('begins'); os._exit(9)")
        installation.configure(csv_source("a", "a.csv"), plugin_source("crashing"))
        installation.start(until=None)
        wait_until(lambda: len(installation.patients()) == 2, "the entries")
        with Asking(installation.port) as asking:
            for minute in range(1, round(minutes) + 1):
                before = lines_about_it(installation)
                time.sleep(60)
                lines = lines_about_it(installation) - before
                restarts = installation.process("crashing")["restarts"]
                print(
                    f"minute {minute}: {lines} lines of log by it and about it, {restarts} restarts so far", flush=True
                )
        installation.terminate()
    print(f"{len(asking.times)} queries, {len(asking.failures)} failed {asking.failures[:3]}")
    show("query", asking.times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="SECTION")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--rows", type=int, default=100_000)
    options = parser.parse_args()
    sections = {
        "hangs": lambda: measure_hangs(options.rounds),
        "crashes": lambda: measure_crashes(options.pairs, options.rows),
        "crash-log": lambda: measure_crash_log(min(options.minutes, 3)),
        "busy": lambda: measure_busy(options.minutes),
    }
    choose(sections, options.sections)


if __name__ == "__main__":
    main()
