"""A REDCap worker's memory does not grow with the project; the benchmark that says so is what measures it here."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

BENCHMARK = Path(__file__).parents[3] / "benchmarks" / "redcap_memory.py"


def test_six_times_the_records_take_no_more_memory() -> None:
    spec = importlib.util.spec_from_file_location("redcap_memory", BENCHMARK)
    assert spec
    assert spec.loader
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    small = benchmark.run("worker", 1_000, sys.executable)
    large = benchmark.run("worker", 6_000, sys.executable)
    assert (small["entries"], large["entries"]) == (2_000, 12_000)
    assert large["peak"] - small["peak"] < 2.0
