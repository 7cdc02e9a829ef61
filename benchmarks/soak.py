"""A long run: 12 sources that fetch every second, and what each process holds of memory, files and threads meanwhile.

A tenth of each file changes at every look; before, everything changes until the database is larger than the writer's
page cache, which would grow meanwhile. At the end, the second half is compared with itself: what a process holds in its
last third (median) may exceed its first third by one percent of memory, and by no file and no thread.

    python benchmarks/soak.py [--duration 3600] [--sources 12] [--every 10]
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from collections import defaultdict
from dataclasses import dataclass

from observing import empty_installation, timed

# isort: split
import psutil
from installation import Installation, csv_source

ROWS = 50
FILLED_BYTES = 20 * 2**20
"""The page cache holds 16 MB; nearly every page of the file is written while it grows."""
GROWTH = 0.01


@dataclass(frozen=True, slots=True)
class Sample:
    """What one process held at a moment."""

    pid: int
    resident_mb: float
    files: int
    threads: int


def fill(installation: Installation, sources: list[str]) -> None:
    """Let everything change until the database is larger than the cache."""
    turn = 0
    while installation.database.stat().st_size < FILLED_BYTES:
        turn += 1
        for name in sources:
            patients = [f"{name}-{row}-0" for row in range(ROWS)]
            installation.write_csv(f"{name}.csv", patients, date=f"2030-01-{1 + turn % 28:02}")
        time.sleep(1)


def watch(installation: Installation, sources: list[str], duration_s: float, every_s: float) -> dict[str, list[Sample]]:
    """Change the files and look at the processes until the time is over."""
    samples: dict[str, list[Sample]] = defaultdict(list)
    chance = random.Random(1)
    ends_at = time.monotonic() + duration_s
    while time.monotonic() < ends_at:
        time.sleep(every_s)
        for name in sources:
            changed = [f"{name}-{row}-{chance.randrange(2) if row % 10 == 0 else 0}" for row in range(ROWS)]
            installation.write_csv(f"{name}.csv", changed)
        for process in installation.status()["processes"]:
            handle = psutil.Process(process["pid"])
            samples[process["name"]].append(
                Sample(handle.pid, handle.memory_info().rss / 2**20, handle.num_fds(), handle.num_threads())
            )
    return samples


def judge(name: str, samples: list[Sample]) -> list[str]:
    """Print a process's figures; returns what is not constant."""
    half = samples[len(samples) // 2 :]
    third = max(1, len(half) // 3)
    first, last = half[:third], half[-third:]
    before, after = (statistics.median(one.resident_mb for one in part) for part in (first, last))
    print(f"{name:12} {samples[0].resident_mb:6.1f} -> {before:6.1f} -> {after:6.1f} MB   "
          f"files {first[0].files} -> {last[-1].files}   threads {first[0].threads} -> {last[-1].threads}")  # fmt: skip
    problems = []
    if after > before * (1 + GROWTH):
        problems.append(f"{name}: memory grew by {after / before - 1:.1%} in the second half")
    if statistics.median(one.files for one in last) > statistics.median(one.files for one in first):
        problems.append(f"{name}: it holds more and more files")
    if statistics.median(one.threads for one in last) > statistics.median(one.threads for one in first):
        problems.append(f"{name}: it has more and more threads")
    if len({one.pid for one in samples}) > 1:
        problems.append(f"{name}: it was restarted")
    return problems


def main() -> int:
    """Run, print the figures, and say what is not constant; status 1 if something is not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--duration", type=float, default=3600, metavar="S")
    parser.add_argument("--sources", type=int, default=12, metavar="N")
    parser.add_argument("--every", type=float, default=10, metavar="S")
    options = parser.parse_args()
    names = [f"s{number:02d}" for number in range(options.sources)]
    with empty_installation() as installation:
        for name in names:
            installation.write_csv(f"{name}.csv", [f"{name}-{row}-0" for row in range(ROWS)])
        installation.configure(*(csv_source(name, f"{name}.csv") for name in names))
        installation.start(until=None)
        timed(lambda: installation.status().get("health") == "healthy", 120, 0.1)
        fill(installation, names)
        samples = watch(installation, names, options.duration, options.every)
        cycles = [len(installation.runs(name)) for name in names]
        problems = [problem for name, taken in samples.items() for problem in judge(name, taken)]
        print(f"{sum(cycles)} cycles in {options.duration:.0f} s, {min(cycles)} of the slowest source")
        if installation.status().get("health") != "healthy":
            problems.append(f"it is {installation.status().get('health')} at the end")
        installation.terminate(30)
    print(*problems, sep="\n", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
