"""What the benchmarks of running instances share: an instance on a site's folder, watched from outside.

Everything that is started ends with the benchmark, also when that is killed.
"""

from __future__ import annotations

import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

sys.path[:0] = [str(Path(__file__).parents[1] / folder) for folder in ("tests", "tests/acceptance")]
from installation import Installation, csv_source  # noqa: E402


@contextmanager
def empty_installation() -> Iterator[Installation]:
    """Give an installation in a folder of its own; whatever was started in it has ended afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        installation = Installation(Path(folder))
        # An installed program is compiled once, not at every start.
        installation.environment.pop("PYTHONDONTWRITEBYTECODE", None)
        try:
            yield installation
        finally:
            installation.close()


@contextmanager
def two_sources() -> Iterator[Installation]:
    """Give an installation with two small CSV files, not started yet."""
    with empty_installation() as installation:
        installation.write_csv("a.csv", [f"P{number}" for number in range(50)])
        installation.write_csv("b.csv", [f"Q{number}" for number in range(50)])
        installation.configure(csv_source("a", "a.csv"), csv_source("b", "b.csv"))
        yield installation


def timed(condition: Callable[[], object], patience_s: float = 60.0, every_s: float = 0.002) -> float:
    """Seconds until a condition holds."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < patience_s, f"not within {patience_s:g} s"
        time.sleep(every_s)
    return time.monotonic() - began


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the values does not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def show(what: str, seconds: Sequence[float]) -> None:
    """Print one line about some durations."""
    figures = (statistics.median(seconds), percentile(seconds, 0.99), max(seconds))
    median, high, worst = (f"{1000 * one:6.0f} ms" for one in figures)
    print(f"{what:<58} median {median}   p99 {high}   worst of {len(seconds)} {worst}", flush=True)


def family(installation: Installation) -> list[psutil.Process]:
    """The supervisor and everybody below it."""
    assert installation.supervisor
    first = psutil.Process(installation.supervisor.pid)
    return [first, *first.children(recursive=True)]


def are_gone(processes: Sequence[psutil.Process]) -> bool:
    """Whether none of them runs any more."""

    def lives(process: psutil.Process) -> bool:
        try:
            return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    return not any(lives(process) for process in processes)


def choose(sections: dict[str, Callable[[], None]], wanted: Sequence[str]) -> None:
    """Run the sections that were named, or all of them."""
    for name, measure in sections.items():
        if not wanted or name in wanted:
            print(f"# {name}", flush=True)
            measure()
