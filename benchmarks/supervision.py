"""How fast processes come back, how fast everything ends, and what an idle instance costs.

Everything is seen from outside: real processes, real signals, the control socket.

    python benchmarks/supervision.py [idle] [ends] [answers] [replacement] [restarts] [--samples 100]
"""

from __future__ import annotations

import argparse
import os
import signal
import time
from pathlib import Path

import psutil
from observing import are_gone, choose, family, show, timed, two_sources

# isort: split
from installation import Installation, csv_source, wait_until

SERVED_LONG_S = 5.2
"""After so long a service has been of use: its next crash costs no pause (`USEFUL_AFTER_S`)."""


def measure_replacement(installation: Installation, samples: int) -> None:
    """Kill a source, the server and the writer in turn, each after it has been of use, so that nobody waits."""
    times: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in ("a", "mwl-scp", "writer")}

    def is_settled() -> bool:
        known = {process["name"]: process for process in installation.status().get("processes", ())}
        services = (known[name] for name in ("mwl-scp", "writer"))
        long_enough = all(one["ready"] and one["uptime_s"] > SERVED_LONG_S for one in services)
        return bool(long_enough and known["a"]["ready"] and known["a"]["last_error"] is None)

    for _ in range(samples):
        wait_until(is_settled, "everybody has been of use", 60)
        for name, (begun, ready) in times.items():
            pid = installation.process(name)["pid"]
            os.kill(pid, signal.SIGKILL)
            begun.append(timed(lambda n=name, p=pid: installation.process(n)["pid"] not in {None, p}))
            ready.append(begun[-1] + timed(lambda n=name: installation.process(n)["ready"]))
    for name, (begun, ready) in times.items():
        show(f"SIGKILL of {name} to its successor's pid", begun)
        show(f"SIGKILL of {name} to its successor being ready", ready)


def measure_answers(installation: Installation, samples: int) -> None:
    """Ask for the status: of an idle instance, while a source is replaced again and again, and during the stop."""

    def ask() -> float:
        began = time.monotonic()
        assert installation.status()
        return time.monotonic() - began

    show("status, idle", [ask() for _ in range(5 * samples)])
    times = []
    for _ in range(samples):
        pid = installation.process("a")["pid"]
        if pid:
            os.kill(pid, signal.SIGKILL)
        times += [ask() for _ in range(5)]
    show("status, a source is killed at every chance", times)
    assert installation.supervisor
    os.kill(installation.process("b")["pid"], signal.SIGSTOP)
    installation.supervisor.send_signal(signal.SIGTERM)
    wait_until(lambda: installation.status()["health"] == "stopping", "it is being stopped")
    show("status, during the stop", [ask() for _ in range(samples)])


def measure_end(installation: Installation, number: signal.Signals, *, times: int = 1) -> float:
    """Seconds from the last of some signals until everything is gone."""
    assert installation.supervisor
    processes = family(installation)
    for turn in range(times):
        if turn:
            time.sleep(0.2)
        began = time.monotonic()
        installation.supervisor.send_signal(number)
    timed(lambda: installation.supervisor.poll() is not None and are_gone(processes))  # type: ignore[union-attr]
    return time.monotonic() - began


def measure_ends(samples: int) -> None:
    """End an instance in every way; an orderly end with somebody stopped takes its grace, so it is tried less often."""

    def end(number: signal.Signals, times: int = 1, stopped: str = "") -> float:
        installation.start()
        if stopped:
            os.kill(installation.process(stopped)["pid"], signal.SIGSTOP)
        return measure_end(installation, number, times=times)

    fewer = max(1, samples // 10)
    with two_sources() as installation:
        show("SIGTERM to everything gone, idle", [end(signal.SIGTERM) for _ in range(samples // 2)])
        for stopped in ("a", "mwl-scp", "writer"):
            show(f"SIGTERM …, {stopped} is stopped", [end(signal.SIGTERM, stopped=stopped) for _ in range(fewer)])
            seconds = [end(signal.SIGTERM, 2, stopped) for _ in range(fewer)]
            show(f"a second SIGTERM 0.2 s later …, {stopped} is stopped", seconds)
        seconds = [end(signal.SIGKILL) for _ in range(samples // 4)]
        show("SIGKILL of the supervisor to everything gone, idle", seconds)
        seconds = []
        installation.start()
        for _ in range(samples // 4):
            os.kill(installation.process("a")["pid"], signal.SIGSTOP)
            seconds.append(measure_new_start(installation))
        show("SIGKILL of the supervisor …, a source is stopped, new start", seconds)
        installation.terminate()
        measure_ends_in_a_sync(installation, fewer)


def measure_new_start(installation: Installation) -> float:
    """Kill the supervisor and start a new one at once; seconds until the old family is gone."""
    assert installation.supervisor
    former, processes = installation.supervisor, family(installation)
    began = time.monotonic()
    former.kill()
    installation.start(until=None)
    timed(lambda: former.poll() is not None and are_gone(processes))
    elapsed = time.monotonic() - began
    installation.wait_for_health("healthy")
    return elapsed


def measure_ends_in_a_sync(installation: Installation, samples: int) -> None:
    """End it while 100 000 rows are on their way."""
    installation.write_csv("a.csv", [f"P{number}" for number in range(100_000)])
    for number in (signal.SIGTERM, signal.SIGKILL):
        seconds = []
        for _ in range(samples):
            for suffix in ("", "-wal", "-shm"):
                installation.database.with_name(f"worklist.db{suffix}").unlink(missing_ok=True)
            installation.start(until=None)
            wait_until(lambda: len(installation.patients()) > 1000, "the sync is on its way", 60)
            seconds.append(measure_end(installation, number))
        show(f"{number.name} to everything gone, in a sync of 100 000 rows", seconds)


def measure_restarts(installation: Installation, restarts: int) -> None:
    """Kill a source again and again, and see what that leaves behind in the supervisor."""
    assert installation.supervisor
    supervisor = psutil.Process(installation.supervisor.pid)

    def restart(times: int) -> None:
        for _ in range(times):
            pid = installation.process("a")["pid"]
            os.kill(pid, signal.SIGKILL)
            wait_until(
                lambda p=pid: (one := installation.process("a"))["pid"] != p and one["ready"] and one["last_sync"],
                "it is back",
                90,
            )

    restart(20)
    before = supervisor.num_fds(), supervisor.memory_info().rss
    restart(restarts)
    zombies = [one for one in supervisor.children() if one.status() == psutil.STATUS_ZOMBIE]
    grown = (supervisor.memory_info().rss - before[1]) / 2**20
    fds = f"{before[0]} descriptors before, {supervisor.num_fds()} after"
    print(f"{restarts} restarts: {fds}, {len(zombies)} zombies, supervisor grew by {grown:.1f} MB", flush=True)


def switches(process: psutil.Process) -> int:
    """How often the threads of a process have waited for something: they woke up as often."""
    total = 0
    for status in Path(f"/proc/{process.pid}/task").glob("*/status"):
        lines = dict(line.split(":\t", 1) for line in status.read_text(encoding="utf-8").splitlines() if ":\t" in line)
        total += int(lines["voluntary_ctxt_switches"])
    return total


def measure_idle(seconds: float) -> None:
    """Leave an instance alone and see what it does; the second source watches its file."""
    with two_sources() as installation:
        watched = {"file_path": "b.csv", "watch_for_changes": True}
        installation.configure(
            csv_source("a", "a.csv", sync_interval=3600), csv_source("b", "b.csv", sync_interval=3600, config=watched)
        )
        installation.start()
        time.sleep(5)
        processes = [one for one in family(installation) if "resource_tracker" not in " ".join(one.cmdline())]
        before = [(switches(one), sum(one.cpu_times()[:2])) for one in processes]
        time.sleep(seconds)
        for process, (woken, busy) in zip(processes, before, strict=True):
            rate = (switches(process) - woken) / seconds
            share = 100 * (sum(process.cpu_times()[:2]) - busy) / seconds
            memory = process.memory_info().rss / 2**20
            name = process.cmdline()[0]
            print(f"{name:<22} {rate:5.2f} wake-ups/s   {share:5.2f} % CPU   {memory:5.1f} MB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="SECTION")
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--restarts", type=int, default=1000)
    parser.add_argument("--idle-seconds", type=float, default=60.0)
    options = parser.parse_args()

    def answers() -> None:
        with two_sources() as installation:
            installation.start()
            measure_answers(installation, options.samples)

    def replacement() -> None:
        with two_sources() as installation:
            installation.start()
            measure_replacement(installation, options.samples)

    def restarts() -> None:
        with two_sources() as installation:
            installation.start()
            measure_restarts(installation, options.restarts)

    sections = {
        "idle": lambda: measure_idle(options.idle_seconds),
        "ends": lambda: measure_ends(options.samples),
        "answers": answers,
        "replacement": replacement,
        "restarts": restarts,
    }
    choose(sections, options.sections)


if __name__ == "__main__":
    main()
