"""Memory of a REDCap source's worker, against the same export read into a pandas DataFrame.

    python -m benchmarks.redcap_memory [--pandas-python .venv-pandas/bin/python]

pandas is no dependency of Pylantir, so it needs an environment of its own:

    python -m venv .venv-pandas && .venv-pandas/bin/pip install pandas PyCap

Each figure comes from a process of its own; a server on loopback makes up the records as they are asked for. Memory is
what Linux reports (resident set, and its highest value since the process became idle).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

TOKEN = "0123456789ABCDEF0123456789ABCDEF"
PERSON = ("record_id", "study_id", "family_id", "youth_dob_y", "demo_sex", "contact", "language")
SCAN = ("mri_instance", "mri_date", "mri_time", "t1_date", "mri_weight", "mri_operator", "mri_notes")
MAPPING = {
    "study_id": "study_id",
    "mri_instance": "session_id",
    "family_id": "family_id",
    "youth_dob_y": "patient_birth_date",
    "demo_sex": "patient_sex",
    "mri_weight": "patient_weight_kg",
    "mri_operator": "performing_physician",
    "mri_notes": "special_needs",
}
TEN_YEARS_S = 10 * 365.25 * 86400


def rows_of(number: int) -> Iterator[dict[str, object]]:
    """Make up one record: its base row and two scans."""
    person = (str(number), f"CPIP-{number:06}", f"FAM-{number // 2:06}", str(1990 + number % 30), "MF"[number % 2])
    yield dict(zip(PERSON, (*person, f"{number}@example.org", "English"), strict=True))
    for scan in (1, 2):
        day = f"2026-{1 + number % 12:02}-{1 + number % 28:02}"
        values = (
            str(scan),
            day,
            f"{8 + number % 10:02}:30",
            day,
            f"{40 + number % 60}.5",
            f"Operator^{number % 50}",
            "none",
        )
        place = {"redcap_repeat_instrument": "mri", "redcap_repeat_instance": scan}
        yield {"record_id": str(number), **place, **dict(zip(SCAN, values, strict=True))}


class Handler(BaseHTTPRequestHandler):
    """REDCap's API as far as the measurement needs it."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_POST(self) -> None:
        """Answer with metadata or rows, in JSON or CSV."""
        form = {
            key: values[0]
            for key, values in parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode()).items()
        }
        if form["content"] == "metadata":
            named = [(name, "mri" if name in SCAN else "person") for name in (*PERSON, *SCAN)]
            chunks = iter([json.dumps([{"field_name": name, "form_name": form_name} for name, form_name in named])])
        elif form["content"] != "record":
            chunks = iter(['{"error": "no events"}'])
        elif "dateRangeBegin" in form:
            chunks = iter(["[]"])
        else:
            chunks = export(form, self.server.records)  # type: ignore[attr-defined]
        self.send_response_only(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for chunk in chunks:
            self.wfile.write(f"{len(chunk):x}\r\n{chunk}\r\n".encode())
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def export(form: dict[str, str], records: int) -> Iterator[str]:
    """Give the text of an export, record by record."""
    wanted = [int(value) for key, value in form.items() if key.startswith("records[")] or range(1, records + 1)
    fields = [value for key, value in form.items() if key.startswith("fields[")]
    columns = list(dict.fromkeys(["record_id", "redcap_repeat_instrument", "redcap_repeat_instance", *fields]))
    as_csv = form["format"] == "csv"
    yield ",".join(columns) + "\n" if as_csv else "["
    separator = ""
    for number in wanted:
        lines = [[row.get(name, "") for name in columns] for row in rows_of(number)]
        if as_csv:
            yield "".join(",".join(map(str, line)) + "\n" for line in lines)
        else:
            yield separator + ",".join(json.dumps(dict(zip(columns, line, strict=True))) for line in lines)
            separator = ","
    if not as_csv:
        yield "]"


def resident_mb(name: str) -> float:
    """Read VmRSS or VmHWM of this process."""
    match = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    return int(match[1]) / 1024 if match else 0.0


def start_peak() -> None:
    """Let VmHWM count from now on."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def measure_worker() -> dict[str, float]:
    """Fetch and normalise every record, as a worker does; idle is after a cycle in which nothing changed."""
    from pylantir.data_sources.redcap.source import RedcapPlugin
    from pylantir.entry import MAPPING_TARGETS
    from pylantir.mapping import EntryMapper

    plugin, mapper = RedcapPlugin(), EntryMapper()
    valid, message = plugin.validate_config({"site_id": "792"})
    if not valid:
        raise SystemExit(message)
    list(plugin.fetch_entries(MAPPING, 60.0))
    idle_mb, started, count = resident_mb("VmRSS"), time.monotonic(), 0
    start_peak()
    for fields in plugin.fetch_entries(MAPPING, TEN_YEARS_S):
        mapper.to_entry({name: fields[name] for name in fields if name in MAPPING_TARGETS})  # type: ignore[index]
        count += 1
    peak_mb, seconds = resident_mb("VmHWM"), time.monotonic() - started
    return {"entries": count, "idle": idle_mb, "peak": peak_mb, "seconds": seconds}


def measure_pandas() -> dict[str, float]:
    """Export the same fields into a DataFrame; idle is after the imports."""
    import pandas as pd
    from redcap import Project

    project = Project(os.environ["REDCAP_API_URL"], TOKEN)
    fields = [*MAPPING, "record_id", "mri_date", "mri_time"]
    pd.DataFrame([dict.fromkeys(fields, "")])
    idle_mb, started = resident_mb("VmRSS"), time.monotonic()
    start_peak()
    frame = project.export_records(format_type="df", fields=fields, df_kwargs={"index_col": "record_id"})
    return {"entries": len(frame), "idle": idle_mb, "peak": resident_mb("VmHWM"), "seconds": time.monotonic() - started}


def run(mode: str, records: int, python: str) -> dict[str, float]:
    """Measure in a process of its own, against a server in another."""
    me = [str(Path(__file__).resolve())]
    with subprocess.Popen([sys.executable, *me, "serve", str(records)], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            url = f"http://127.0.0.1:{server.stdout.readline().strip()}/api/"
            root = str(Path(__file__).resolve().parents[1])
            environ = {**os.environ, "REDCAP_API_URL": url, "REDCAP_API_TOKEN": TOKEN, "PYTHONPATH": root}
            done = subprocess.run([python, *me, mode], env=environ, capture_output=True, text=True, check=True)
        finally:
            server.terminate()
    figures: dict[str, float] = json.loads(done.stdout)
    growth = figures["peak"] - figures["idle"]
    print(
        f"{mode:7} {records:7} records {figures['entries']:7.0f} rows  idle {figures['idle']:6.1f} MB"
        f"  peak {figures['peak']:6.1f} MB  growth {growth:6.1f} MB  {figures['seconds']:5.1f} s",
        flush=True,
    )
    return figures | {"growth": growth}


def main() -> None:
    """Serve, measure, or (without a mode) compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", nargs="?", choices=["serve", "worker", "pandas"], help=argparse.SUPPRESS)
    parser.add_argument("records", nargs="?", type=int, default=100_000)
    parser.add_argument("--pandas-python", help="the interpreter of an environment that has pandas and PyCap")
    arguments = parser.parse_args()
    if arguments.mode == "serve":
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.records = arguments.records  # type: ignore[attr-defined]
        print(server.server_address[1], flush=True)
        server.serve_forever()
    elif arguments.mode:
        print(json.dumps(measure_worker() if arguments.mode == "worker" else measure_pandas()))
    else:
        small = run("worker", 10_000, sys.executable)
        large = run("worker", 100_000, sys.executable)
        print(f"peak with 100 000 records over peak with 10 000: {large['peak'] - small['peak']:+.1f} MB")
        if arguments.pandas_python:
            frame = run("pandas", 100_000, arguments.pandas_python)
            print(f"growth of pandas over growth of the worker: {frame['growth'] / large['growth']:.0f} times")


if __name__ == "__main__":
    main()
