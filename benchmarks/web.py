"""What the web process costs: a day's page, a scrape every second, many browsers beside many scanners, memory.

    python benchmarks/web.py [day] [scrape] [crowd] [memory] [--seconds 60]

`crowd`: 50 browsers that load the day every five seconds, and 50 scanners that ask for theirs every second, each in a
new association; first the scanners alone, then both, then the scanners alone again.
"""

from __future__ import annotations

import argparse
import datetime
import http.client
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.observing import Installation, csv_source, empty_installation, percentile, show
from benchmarks.raw_client import RawClient, find_request

ITEMS = 500
CROWD = 50
LOADS_EVERY_S = 5.0


@contextmanager
def site(items: int = ITEMS) -> Iterator[tuple[Installation, int]]:
    """Give a running installation with a day's items on ten scanners, and its HTTP port."""
    from ports import free_port

    with empty_installation() as installation:
        today = f"{datetime.datetime.now().astimezone():%Y-%m-%d}"
        rows = [f"P{n},{today},Name^N{n},{8 + n % 10:02}:{n % 60:02},SCANNER{n % 10}" for n in range(items)]
        (installation.folder / "a.csv").write_text("\n".join(["id,date,name,time,station", *rows, ""]))
        mapping = {"id": "patient_id", "date": "scheduled_start_date", "name": "patient_name",
                   "time": "scheduled_start_time", "station": "scheduled_station_aetitle"}  # fmt: skip
        port = free_port()
        installation.configure(
            csv_source("a", "a.csv", field_mapping=mapping, sync_interval=10),
            http={"port": port},
            dicom={"host": "127.0.0.1", "port": installation.port, "max_associations_per_host": 100},
        )
        installation.start()
        yield installation, port


def get(port: int, path: str) -> float:
    """Load a page: seconds."""
    began = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    if answer.status != 200:
        raise ConnectionError(f"{path}: {answer.status}")
    return time.perf_counter() - began


def measure_day() -> None:
    """Print how long the page of a day takes."""
    with site() as (_, port):
        get(port, "/")
        show(f"the day's page with {ITEMS} items", [get(port, "/") for _ in range(50)])


def measure_scrape(seconds: int) -> None:
    """Print what a scrape every second costs."""
    with site() as (installation, port):
        processes = [psutil.Process(one["pid"]) for one in installation.status()["processes"]
                     if one["name"] in {"web", "supervisor"}]  # fmt: skip
        get(port, "/metrics")
        for what, path in (("nobody asks", ""), ("a scrape every second", "/metrics")):
            before = sum(sum(process.cpu_times()[:2]) for process in processes)
            waits = []
            for _ in range(seconds):
                began = time.monotonic()
                if path:
                    waits.append(get(port, path))
                time.sleep(max(0.0, 1 - (time.monotonic() - began)))
            used = sum(sum(process.cpu_times()[:2]) for process in processes) - before
            print(f"{what}: {100 * used / seconds:.2f} % of a core (web process and supervisor)", flush=True)
        show("a scrape", waits)


def measure_crowd(seconds: int) -> None:
    """Print how long scanners wait without browsers, beside them, and without them again."""
    with site() as (installation, port):
        for name in ("scanners alone", "beside browsers", "scanners alone again"):
            browsers = (
                subprocess.Popen([sys.executable, __file__, "--browse", str(port), "--seconds", str(seconds)])
                if name == "beside browsers"
                else None
            )
            waits: list[float] = []
            failures: list[str] = []
            threads = [threading.Thread(target=scan, args=(installation.port, n, seconds, waits, failures))
                       for n in range(CROWD)]  # fmt: skip
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            if browsers:
                browsers.wait(120)
            show(f"{CROWD} scanners, {name}: {len(failures)} failures", waits)


def scan(port: int, number: int, seconds: int, waits: list[float], failures: list[str]) -> None:
    """Ask once a second; the wait counts from the connection to the end of the answer."""
    request = find_request({"ScheduledStationAETitle": f"SCANNER{number % 10}"})
    begin = time.monotonic() + number / CROWD
    for turn in range(seconds):
        time.sleep(max(0.0, begin + turn - time.monotonic()))
        started = time.perf_counter()
        try:
            client = RawClient(port, calling=f"MR{number}")
            _, matches = client.find(request)
            waits.append(time.perf_counter() - started)
            client.release()
            if matches != ITEMS // 10:
                failures.append(f"{matches} matches")
        except OSError as error:
            failures.append(repr(error))


def browse(port: int, seconds: int) -> None:
    """Be the browsers."""
    waits: list[float] = []
    failures: list[str] = []

    def look(number: int) -> None:
        begin = time.monotonic() + LOADS_EVERY_S * number / CROWD
        for turn in range(int(seconds / LOADS_EVERY_S)):
            time.sleep(max(0.0, begin + LOADS_EVERY_S * turn - time.monotonic()))
            try:
                waits.append(get(port, "/"))
            except OSError as error:
                failures.append(repr(error))

    threads = [threading.Thread(target=look, args=(number,)) for number in range(CROWD)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    show(f"{CROWD} browsers: {len(failures)} failures", waits)
    print(*failures[:3], f"p99 {percentile(waits, 0.99):.3f} s")


def measure_memory() -> None:
    """Print the resident set of the web process, idle and after each thing was asked for."""
    with site() as (installation, port):
        process = psutil.Process(installation.process("web")["pid"])

        def tell(what: str) -> None:
            print(f"{what}: {process.memory_info().rss / 2**20:.1f} MB", flush=True)

        tell("idle")
        for path in ("/metrics", "/", "/sources", "/scanners", "/dicomweb/modality-scheduled-procedure-steps"):
            get(port, path)
            tell(f"after {path}")


def main() -> None:
    """Run the sections that were named, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", choices=["day", "scrape", "crowd", "memory", []])
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--browse", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.browse:
        browse(options.browse, options.seconds)
        return
    sections = {
        "day": measure_day,
        "scrape": partial(measure_scrape, options.seconds),
        "crowd": partial(measure_crowd, options.seconds),
        "memory": measure_memory,
    }
    for name in options.sections or sections:
        print(f"# {name}", flush=True)
        sections[name]()


if __name__ == "__main__":
    main()
