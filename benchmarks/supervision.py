"""How fast processes come back, how fast everything ends, and what an idle instance costs.

Everything is seen from outside: real processes, real signals, the control socket.

    python benchmarks/supervision.py [--samples 10] [--restarts 1000] [--idle 60]
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

sys.path[:0] = [str(Path(__file__).parents[1] / folder) for folder in ("tests", "tests/acceptance")]
from installation import Installation, csv_source, wait_until  # noqa: E402


def timed(condition: Callable[[], object], patience_s: float = 60.0) -> float:
    """Seconds until a condition holds, to about a millisecond."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < patience_s
        time.sleep(0.001)
    return time.monotonic() - began


def show(what: str, seconds: Sequence[float]) -> None:
    middle, worst = statistics.median(seconds), max(seconds)
    print(f"{what:<58} median {1000 * middle:6.0f} ms   worst of {len(seconds)} {1000 * worst:6.0f} ms", flush=True)


def two_sources(folder: Path) -> Installation:
    installation = Installation(folder)
    installation.write_csv("a.csv", [f"P{number}" for number in range(50)])
    installation.write_csv("b.csv", [f"Q{number}" for number in range(50)])
    installation.configure(csv_source("a", "a.csv"), csv_source("b", "b.csv"))
    return installation


def family(installation: Installation) -> list[psutil.Process]:
    assert installation.supervisor
    first = psutil.Process(installation.supervisor.pid)
    return [first, *first.children(recursive=True)]


def are_gone(processes: Sequence[psutil.Process]) -> bool:
    def lives(process: psutil.Process) -> bool:
        try:
            return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    return not any(lives(process) for process in processes)


def measure_replacement(installation: Installation, samples: int) -> None:
    for name in ("a", "mwl-scp", "writer"):
        begun, ready = [], []
        for _ in range(samples):
            # Long enough to have been of use: a first crash costs no pause.
            wait_until(lambda n=name: (installation.process(n).get("uptime_s") or 0) > 5.5, "some service")
            pid = installation.process(name)["pid"]
            os.kill(pid, signal.SIGKILL)
            begun.append(timed(lambda n=name, p=pid: installation.process(n)["pid"] not in {None, p}))
            ready.append(begun[-1] + timed(lambda n=name: installation.process(n)["ready"]))
        show(f"SIGKILL of {name} to its successor's pid", begun)
        show(f"SIGKILL of {name} to its successor being ready", ready)


def measure_answers(installation: Installation, samples: int) -> None:
    times = []
    for _ in range(20 * samples):
        began = time.monotonic()
        installation.status()
        times.append(time.monotonic() - began)
    show("status", times)


def measure_end(what: str, installation: Installation, number: signal.Signals, *, times: int = 1) -> None:
    assert installation.supervisor
    processes = family(installation)
    began = time.monotonic()
    for turn in range(times):
        if turn:
            time.sleep(0.2)
        installation.supervisor.send_signal(number)
    timed(lambda: installation.supervisor.poll() is not None and are_gone(processes))  # type: ignore[union-attr]
    show(what, [time.monotonic() - began])


def measure_restarts(installation: Installation, restarts: int) -> None:
    assert installation.supervisor
    supervisor = psutil.Process(installation.supervisor.pid)

    def restart(times: int) -> None:
        for _ in range(times):
            pid = installation.process("a")["pid"]
            os.kill(pid, signal.SIGKILL)
            wait_until(
                lambda p=pid: (one := installation.process("a"))["pid"] != p and one["ready"] and one["last_sync"],
                "back",
            )

    restart(20)
    before = supervisor.num_fds(), supervisor.memory_info().rss
    restart(restarts)
    zombies = [one for one in supervisor.children() if one.status() == psutil.STATUS_ZOMBIE]
    grown = (supervisor.memory_info().rss - before[1]) / 2**20
    fds = f"{before[0]} descriptors before, {supervisor.num_fds()} after"
    print(f"{restarts} restarts: {fds}, {len(zombies)} zombies, supervisor grew by {grown:.1f} MB", flush=True)


def switches(process: psutil.Process) -> int:
    total = 0
    for status in Path(f"/proc/{process.pid}/task").glob("*/status"):
        lines = dict(line.split(":\t", 1) for line in status.read_text(encoding="utf-8").splitlines() if ":\t" in line)
        total += int(lines["voluntary_ctxt_switches"])
    return total


def measure_idle(folder: Path, seconds: float) -> None:
    installation = two_sources(folder)
    installation.configure(*(csv_source(name, f"{name}.csv", sync_interval=3600) for name in "ab"))
    installation.start()
    time.sleep(5)
    processes = [one for one in family(installation) if "resource_tracker" not in " ".join(one.cmdline())]
    before = [(switches(one), sum(one.cpu_times()[:2])) for one in processes]
    time.sleep(seconds)
    for process, (woken, busy) in zip(processes, before, strict=True):
        rate = (switches(process) - woken) / seconds
        share = 100 * (sum(process.cpu_times()[:2]) - busy) / seconds
        memory = process.memory_info().rss / 2**20
        print(
            f"idle {process.cmdline()[0]:<22} {rate:5.2f} wake-ups/s   {share:5.2f} % CPU   {memory:5.1f} MB",
            flush=True,
        )
    installation.terminate()


def in_folder(measure: Callable[[Path], None]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder))


def measure_ends(folder: Path) -> None:
    installation = two_sources(folder)
    try:
        installation.start()
        measure_end("SIGTERM to everything gone, idle", installation, signal.SIGTERM)
        installation.start()
        measure_end("SIGKILL of the supervisor to everything gone", installation, signal.SIGKILL)
        installation.start()
        os.kill(installation.process("a")["pid"], signal.SIGSTOP)
        measure_end("SIGTERM to everything gone, a source is stopped", installation, signal.SIGTERM)
        installation.start()
        os.kill(installation.process("a")["pid"], signal.SIGSTOP)
        measure_end("SIGTERM twice (0.2 s apart), a source is stopped", installation, signal.SIGTERM, times=2)
        installation.write_csv("a.csv", [f"P{number}" for number in range(100_000)])
        installation.start(until=None)
        wait_until(lambda: len(installation.patients()) > 1000, "the sync is on its way", 60)
        measure_end("SIGTERM to everything gone, in a sync of 100 000 rows", installation, signal.SIGTERM)
    finally:
        installation.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=10)
    parser.add_argument("--restarts", type=int, default=1000)
    parser.add_argument("--idle", type=float, default=60.0, metavar="SECONDS")
    options = parser.parse_args()

    def measure_running(folder: Path) -> None:
        installation = two_sources(folder)
        try:
            installation.start()
            measure_answers(installation, options.samples)
            measure_replacement(installation, options.samples)
            measure_restarts(installation, options.restarts)
        finally:
            installation.close()

    in_folder(lambda folder: measure_idle(folder, options.idle))
    in_folder(measure_ends)
    in_folder(measure_running)


if __name__ == "__main__":
    main()
