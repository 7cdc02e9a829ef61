"""What the access log costs a query: the 50th and 99th of a hundred with it, as a ratio to those without it.

Two installations with the same entries are asked in turn, query by query: what else the machine does meets both alike.

    python -m benchmarks.access [--rows 2000] [--queries 2000]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

from benchmarks.queries import requests_of
from benchmarks.raw_client import RawClient
from benchmarks.worklist_servers import pylantir


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--queries", type=int, default=2000)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        pylantir(Path(folder) / "with", options.rows) as logged,
        pylantir(Path(folder) / "without", options.rows, access={"log": False}) as silent,
    ):
        for installation in (logged, silent):
            installation.wait_for_cycles(1)
        for kind in ("patient", "day"):
            clients = {"with": RawClient(logged.port), "without": RawClient(silent.port)}
            requests, seconds = requests_of(kind, options.rows), {name: [] for name in clients}
            for number in range(options.queries):
                for name, client in clients.items():
                    seconds[name].append(client.find(requests[number % len(requests)])[0])
            for client in clients.values():
                client.release()
            cuts = {name: statistics.quantiles(times, n=100) for name, times in seconds.items()}
            half, most = (cuts["with"][place] / cuts["without"][place] for place in (49, 98))
            print(f"{kind}: p50 {1000 * cuts['with'][49]:.2f} ms, ratio {half:.3f}; "
                  f"p99 {1000 * cuts['with'][98]:.2f} ms, ratio {most:.3f}")  # fmt: skip


if __name__ == "__main__":
    main()
