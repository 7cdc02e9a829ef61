"""How fast worklist queries and scanners' reports are answered, beside wlmscpfs and Orthanc's worklist plugin.

Every server has the same entries and is asked by the same client of fixed bytes, which only looks for the end of the
answer; per query within one association, medians. Pylantir runs as it is started in earnest, from a CSV file.

    python -m benchmarks.queries [--parts queries,load,reports] [--rows 10000,100000] [--scanners 50] [--seconds 60]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.raw_client import RawClient, create_request, find_request, set_request
from benchmarks.worklist_servers import Pylantir, orthanc, pylantir, wlmscpfs, write_schedule, write_worklist_files

PARTS = ("queries", "load", "reports")
REPORTS = 300
_DAY = {"ScheduledProcedureStepStartDate": "20270103", "ScheduledStationAETitle": "SCANNER3"}


def requests_of(kind: str, rows: int) -> list[bytes]:
    """The queries of one kind: one day and station, patients all over it, a name's beginning, or everything."""
    if kind == "day":
        return [find_request(_DAY)]
    if kind == "patient":
        return [find_request({}, PatientID=f"P{number:06d}") for number in range(7, rows, rows // 50)]
    if kind == "name":
        return [find_request({}, PatientName=f"NAME{number}^G*") for number in range(1000, 5000, 80)]
    return [find_request({})]


def time_queries(port: int, kind: str, rows: int, runs: int) -> tuple[float, int]:
    """Median seconds per query, and the matches of the last."""
    client = RawClient(port)
    requests = requests_of(kind, rows)
    client.find(requests[0])
    results = [client.find(requests[run % len(requests)]) for run in range(runs)]
    client.release()
    return statistics.median(seconds for seconds, _ in results), results[-1][1]


def measure_queries(folder: Path, sizes: list[int]) -> None:
    """Print what each server takes for each kind of query, and the ratios."""
    for rows in sizes:
        with pylantir(folder / f"pylantir{rows}", rows) as installation:
            installation.wait_for_cycles(1)
            ports: dict[str, int | None] = {"Pylantir": installation.port}
            if rows != sizes[0]:
                print_queries(rows, ports)
                continue
            files = folder / "PYLANTIR"
            write_worklist_files(installation, files)
            with wlmscpfs(files) as first, orthanc(files, folder / "orthanc") as second:
                print_queries(rows, {**ports, "wlmscpfs": first, "Orthanc": second})


def print_queries(rows: int, ports: dict[str, int | None]) -> None:
    """Print one line per kind of query."""
    for kind in ("day", "patient", "name", "all"):
        line, ours = f"{rows:>7} items, {kind:<8}", 0.0
        for name, port in ports.items():
            if port is None:
                continue
            runs = (30 if kind == "all" else 200) if name == "Pylantir" else 7
            seconds, matches = time_queries(port, kind, rows, runs)
            ours = ours or seconds
            line += f" {name} {seconds * 1000:8.2f} ms ({matches} matches)"
            line += "" if name == "Pylantir" else f" = {seconds / ours:6.1f} x"
        print(line, flush=True)


@contextmanager
def busy_with_syncs(installation: Pylantir, rows: int) -> Iterator[list[float]]:
    """Let the whole file change and be fetched again and again; gives the seconds of each cycle."""
    seconds: list[float] = []
    enough = threading.Event()

    def sync() -> None:
        shift_min = 0
        while not enough.is_set():
            shift_min += 1
            write_schedule(installation.csv, rows, shift_min=shift_min % 5)
            before, started = installation.cycles(), time.monotonic()
            installation.sync()
            while installation.cycles() == before and not enough.wait(0.1):
                pass
            seconds.append(time.monotonic() - started)

    thread = threading.Thread(target=sync)
    thread.start()
    try:
        yield seconds
    finally:
        enough.set()
        thread.join()


def measure_load(folder: Path, rows: int, scanners: int, seconds: float) -> None:
    """Print how long scanners wait that ask every second, each in a new association, while everything syncs."""
    with pylantir(folder / "load", rows) as installation:
        installation.wait_for_cycles(1)
        for name in ("idle", "during syncs"):
            waits: list[float] = []
            failures: list[str] = []
            threads = [
                threading.Thread(target=scan, args=(installation.port, number / scanners, seconds, waits, failures))
                for number in range(scanners)
            ]
            with (
                busy_with_syncs(installation, rows if name != "idle" else 1) if name != "idle" else nothing() as cycles
            ):
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
            print(f"{scanners} scanners, {seconds:.0f} s, {name}: {len(waits)} queries, {len(failures)} failures,")
            print(f"    {percentiles(waits)}; {len(cycles)} cycles of {rows} rows", *failures[:3], flush=True)


@contextmanager
def nothing() -> Iterator[list[float]]:
    """No syncs."""
    yield []


def scan(port: int, offset_s: float, seconds: float, waits: list[float], failures: list[str]) -> None:
    """Ask once a second for one's own day; the wait counts from the connection to the end of the answer."""
    request = find_request(_DAY)
    begin = time.monotonic() + offset_s
    for turn in range(int(seconds)):
        time.sleep(max(0.0, begin + turn - time.monotonic()))
        started = time.perf_counter()
        try:
            client = RawClient(port)
            client.find(request)
            waits.append(time.perf_counter() - started)
            client.release()
        except OSError as error:
            failures.append(repr(error))


def measure_reports(folder: Path, rows: int) -> None:
    """Print how long an N-CREATE or N-SET takes until it is answered, which is after its COMMIT."""
    with pylantir(folder / "reports", rows) as installation:
        installation.wait_for_cycles(1)
        items = installation.select("SELECT study_instance_uid, patient_id FROM worklist_items LIMIT 2000")
        report(installation.port, items[-20:])
        print(f"N-CREATE, idle: {percentiles(report(installation.port, items[:REPORTS]))}")
        with busy_with_syncs(installation, rows) as cycles:
            time.sleep(1)
            waits = report(installation.port, items[REPORTS : 2 * REPORTS], pause_s=0.05)
        print(f"N-CREATE, during a sync: {percentiles(waits)}; {len(cycles)} cycles of {rows} rows", flush=True)
        for images, exams in ((100, items[2 * REPORTS : 3 * REPORTS]), (60_000, items[-3:])):
            print(f"N-SET, {images} images: {percentiles(end_exams(installation.port, exams, images))}", flush=True)


def report(port: int, items: list[tuple[str, str]], pause_s: float = 0.0) -> list[float]:
    """Report the beginning of these exams, one after the other: seconds until each answer."""
    client = RawClient(port)
    waits = []
    for study_uid, patient_id in items:
        time.sleep(pause_s)
        waits.append(client.report(create_request(f"2.25.{uuid.uuid4().int}", study_uid, patient_id)))
    client.release()
    return waits


def end_exams(port: int, items: list[tuple[str, str]], images: int) -> list[float]:
    """Report beginning and end of these exams, each with so many images: seconds until the answer to each end."""
    client = RawClient(port)
    waits = []
    # Made once, of UIDs of one length: pydicom takes longer for it than the server.
    first = 10**30 + uuid.uuid4().int % 10**29
    ending = set_request(f"2.25.{first}", images)
    for number, (study_uid, patient_id) in enumerate(items):
        instance_uid = f"2.25.{first + number}"
        client.report(create_request(instance_uid, study_uid, patient_id))
        waits.append(client.report(ending.replace(str(first).encode(), str(first + number).encode())))
    client.release()
    return waits


def percentiles(waits: list[float]) -> str:
    """Median, 99th percentile and maximum."""
    ordered = sorted(waits)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return (
        f"median {statistics.median(ordered) * 1000:.1f} ms, p99 {p99 * 1000:.1f} ms, max {ordered[-1] * 1000:.1f} ms"
    )


def main() -> None:
    """Measure the chosen parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS), help="comma-separated: %(default)s")
    parser.add_argument("--rows", default="10000,100000", help="worklist sizes for queries, the first with all servers")
    parser.add_argument("--sync-rows", type=int, default=100_000, help="rows of each sync behind load and reports")
    parser.add_argument("--scanners", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    parts = options.parts.split(",")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "queries" in parts:
            measure_queries(folder, [int(rows) for rows in options.rows.split(",")])
        if "load" in parts:
            measure_load(folder, options.sync_rows, options.scanners, options.seconds)
        if "reports" in parts:
            measure_reports(folder, options.sync_rows)


if __name__ == "__main__":
    main()
