"""How long a site waits: from the start to the first answer, to the first entries, from a saved file to the scanner.

The scanner is a bare socket that asks as soon as the port takes connections, and again while it is refused.

    python benchmarks/startup.py [start] [restart] [saved] [imports] [--samples 20]
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from contextlib import suppress

from observing import choose, empty_installation, show, timed

# isort: split
from installation import Installation, csv_source
from pydicom.dataset import Dataset
from raw_scanner import RawScanner

ROWS = 1000
PROCESSES = {
    "command": "workers.commands.cli",
    "supervisor": "workers.supervisor.instance, workers.supervisor.configuration",
    "check": "workers.supervisor.check, pylantir.config.loading, pylantir.data_sources.registry",
    "writer": "workers.child.bootstrap, workers.writer.worker",
    "mwl-scp": "workers.child.bootstrap, workers.server.worker",
    "source (csv)": "workers.child.bootstrap, workers.source.worker, pylantir.data_sources.csv_file",
}


def seen(port: int, patient: str = "") -> int:
    """How many matches a scanner is given for a patient ID; -1 if it is not answered with success."""
    wanted = Dataset()
    wanted.PatientID = patient
    with suppress(OSError, AssertionError):
        scanner = RawScanner(port)
        matches, status = scanner.find(wanted)
        scanner.release()
        if status == 0:
            return len(matches)
    return -1


def start(installation: Installation) -> tuple[float, float]:
    """Seconds from the start to the first answer, and to the last entry of the file."""
    began = time.monotonic()
    installation.start(until=None)
    timed(lambda: seen(installation.port, "P1") >= 0)
    answered = time.monotonic() - began
    timed(lambda: seen(installation.port, f"P{ROWS}") == 1)
    return answered, time.monotonic() - began


def measure_start(samples: int, *, with_database: bool) -> None:
    """Start an instance on one CSV file that a scanner is waiting for; the first start compiles, and does not count."""
    times = []
    for _ in range(samples + 1):
        with empty_installation() as installation:
            installation.write_csv("a.csv", [f"P{number}" for number in range(1, ROWS + 1)])
            installation.configure(csv_source("a", "a.csv", sync_interval=60))
            if with_database:
                installation.start()
                installation.terminate()
            times.append(start(installation))
            installation.terminate()
    what = "a start with its database" if with_database else "a first start"
    answered, served = zip(*times[1:], strict=True)
    show(f"{what}, to the first C-FIND answered", answered)
    show(f"{what}, to {ROWS} rows served", served)


def measure_saved(samples: int) -> None:
    """Save a watched file with one patient more, and wait until the scanner sees that one."""
    with empty_installation() as installation:
        patients = [f"P{number}" for number in range(ROWS)]
        watched = {"file_path": "a.csv", "watch_for_changes": True}
        installation.write_csv("a.csv", patients)
        installation.configure(csv_source("a", "a.csv", sync_interval=600, config=watched))
        installation.start()
        times = []
        for number in range(samples):
            patients.append(f"NEW{number}")
            # Not in step with the looks at the file.
            time.sleep(2 + number % 10 / 10)
            installation.write_csv("a.csv", patients)
            times.append(timed(lambda n=number: seen(installation.port, f"NEW{n}") == 1))
        installation.terminate()
    show("a watched CSV file saved, to its new row served", times)


def measure_imports() -> None:
    """Tell what each process imports, and what the dearest modules cost."""
    for name, modules in PROCESSES.items():
        command = [sys.executable, "-X", "importtime", "-c", f"import {modules}"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        lines = re.findall(r"import time: +(\d+) \| +(\d+) \|( +)(\S+)", done.stderr)
        total_ms = sum(int(own) for own, *_ in lines) / 1000
        outer = sorted(((int(all_), module) for _, all_, indent, module in lines if len(indent) <= 5), reverse=True)
        dearest = ", ".join(f"{module} {microseconds / 1000:.0f}" for microseconds, module in outer[:6])
        print(f"{name:<14} {len(lines):5} modules {total_ms:6.0f} ms: {dearest}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="SECTION")
    parser.add_argument("--samples", type=int, default=20)
    options = parser.parse_args()
    sections = {
        "imports": measure_imports,
        "start": lambda: measure_start(options.samples, with_database=False),
        "restart": lambda: measure_start(options.samples, with_database=True),
        "saved": lambda: measure_saved(options.samples),
    }
    choose(sections, options.sections)


if __name__ == "__main__":
    main()
