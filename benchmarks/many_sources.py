"""Many sources on one machine: until the first answer, until all are synced, memory, `status`, and the stop.

The scanner is a bare socket that asks as soon as the port takes connections, and again while it is refused.

    python benchmarks/many_sources.py [--sources 250] [--interval 60]
"""

from __future__ import annotations

import argparse
import os
import time

from observing import empty_installation, timed

# isort: split
import psutil
from installation import Installation, csv_source
from startup import seen

ROWS = 10
PATIENCE_S = 300.0


def measure(installation: Installation, sources: int, interval_s: int) -> None:
    """Start an instance of so many sources, look at it, and stop it."""
    names = [f"s{number:03d}" for number in range(sources)]
    for name in names:
        installation.write_csv(f"{name}.csv", [f"{name}-{row}" for row in range(ROWS)])
    installation.configure(*(csv_source(name, f"{name}.csv", sync_interval=interval_s) for name in names))
    load = os.getloadavg()[0]
    began = time.monotonic()
    installation.start(until=None)
    timed(lambda: seen(installation.port, "nobody") >= 0, PATIENCE_S)
    answered = time.monotonic() - began
    timed(lambda: len(installation.patients()) == ROWS * sources, PATIENCE_S, 0.2)
    synced = time.monotonic() - began
    timed(lambda: installation.status().get("health") == "healthy", PATIENCE_S, 0.1)
    healthy = time.monotonic() - began
    print(f"{sources} sources, load before {load:.1f}: first query answered after {answered:.2f} s, "
          f"all synced after {synced:.1f} s, healthy after {healthy:.1f} s")  # fmt: skip
    processes = installation.status()["processes"]
    proportional = [psutil.Process(one["pid"]).memory_full_info().pss / 2**20 for one in processes]
    own, writer, server, *rest = proportional
    print(f"proportional memory: supervisor {own:.0f} MB, writer {writer:.0f} MB, server {server:.0f} MB, "
          f"a source {sum(rest) / len(rest):.1f} MB")  # fmt: skip
    spent = [sum(psutil.Process(one["pid"]).cpu_times()[:2]) for one in processes]
    print(
        f"processor time: supervisor {spent[0]:.1f} s, writer {spent[1]:.1f} s, "
        f"a source {sum(spent[3:]) / sources:.2f} s"
    )
    print(f"supervisor: {psutil.Process(processes[0]['pid']).num_fds()} descriptors")
    times = []
    for _ in range(20):
        began = time.monotonic()
        assert installation.status()
        times.append(time.monotonic() - began)
    print(f"status: median {sorted(times)[10] * 1000:.0f} ms, worst {max(times) * 1000:.0f} ms")
    began = time.monotonic()
    status = installation.terminate(60)
    print(f"stopped with status {status} after {time.monotonic() - began:.1f} s")


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sources", type=int, default=250)
    parser.add_argument("--interval", type=int, default=60)
    options = parser.parse_args()
    with empty_installation() as installation:
        measure(installation, options.sources, options.interval)


if __name__ == "__main__":
    main()
