"""How fast a CSV file becomes the worklist, as a ratio to the raw limit measured in the same run.

The raw limit is what plain `csv` and `sqlite3.executemany` need for the same rows into one table with three indexes.
The real time is a cycle of the real processes, from its start to its last COMMIT, as `sync_runs` has it.

    python -m benchmarks.sync [--rows 100000] [--runs 3] [--sources 1]
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from datetime import datetime
from pathlib import Path

import psutil

from pylantir.data_sources.source_file import SETTLED_AFTER_S
from pylantir.ipc.control import ask_supervisor

MAPPING = {
    "record": "source_record_id",
    "mrn": "patient_id",
    "name": "patient_name",
    "born": "patient_birth_date",
    "sex": "patient_sex",
    "weight": "patient_weight_lb",
    "accession": "accession_number",
    "modality": "modality",
    "station": "scheduled_station_aetitle",
    "date": "scheduled_start_date",
    "time": "scheduled_start_time",
    "physician": "performing_physician",
    "procedure": "procedure_description",
    "protocol": "protocol_name",
}
COLUMNS = tuple(MAPPING)


def write_rows(path: Path, rows: int, prefix: str = "", changed_every: int = 0) -> None:
    """Write a schedule of synthetic patients with two exams each, always the same; each n-th row is moved an hour."""
    chance = random.Random(rows)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for number in range(rows):
            person = number // 2
            hour = 8 + number % 10 + (1 if changed_every and number % changed_every == 0 else 0)
            writer.writerow(
                [
                    f"{prefix}R{number}", f"{prefix}P{person:06d}", f"Name{person % 5000}^Given{person % 700}",
                    f"{1940 + person % 70}-{1 + person % 12:02d}-{1 + person % 28:02d}", "MF"[person % 2],
                    chance.randint(90, 250), f"{prefix}A{number:07d}", ("MR", "CT", "US")[number % 3],
                    f"SCANNER{number % 8}", f"2027-{1 + number // 2800 % 12:02d}-{1 + number // 100 % 28:02d}",
                    f"{hour:02d}:{number % 60:02d}", "Physician^Some", "Brain without contrast", "BRAIN_MRI_3T",
                ]
            )  # fmt: skip


def time_raw_limit(csv_path: Path, folder: Path) -> float:
    """Seconds for plain csv and sqlite3: one table, three indexes, upserts in batches of 500."""
    path = folder / "raw.db"
    path.unlink(missing_ok=True)
    started = time.perf_counter()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection, csv_path.open(encoding="utf-8") as file:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute(f"CREATE TABLE entries ({', '.join(COLUMNS)}, PRIMARY KEY (record))")
        for column in ("mrn", "date", "accession"):
            connection.execute(f"CREATE INDEX by_{column} ON entries ({column})")
        upsert = (
            f"INSERT INTO entries VALUES ({', '.join('?' * len(COLUMNS))}) ON CONFLICT (record) DO UPDATE SET "
            + ", ".join(f"{column} = excluded.{column}" for column in COLUMNS[1:])
        )
        reader = csv.reader(file)
        next(reader)
        batch: list[list[str]] = []
        for row in reader:
            batch.append(row)
            if len(batch) == 500:
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany(upsert, batch)
                connection.execute("COMMIT")
                batch = []
        if batch:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(upsert, batch)
            connection.execute("COMMIT")
    return time.perf_counter() - started


class Instance:
    """A running Pylantir on CSV files, in a folder of its own."""

    def __init__(self, folder: Path, sources: int) -> None:
        self.folder = folder
        self.names = [f"source_{number}" for number in range(sources)]
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        config = {
            "db_path": "worklist.db",
            "runtime_dir": "run",
            "log": {"level": "WARNING"},
            "dicom": {"host": "127.0.0.1", "port": port},
            "data_sources": [
                {"name": name, "type": "csv", "sync_interval": 36000, "config": {"file_path": f"{name}.csv"},
                 "field_mapping": MAPPING}
                for name in self.names
            ],
        }  # fmt: skip
        (folder / "pylantir.json").write_text(json.dumps(config), encoding="utf-8")
        command = [sys.executable, "-m", "workers.commands.cli", "start", "--config", str(folder / "pylantir.json")]
        self.process = subprocess.Popen(command)

    def wait_for_runs(self, number: int, timeout_s: float = 600.0) -> list[tuple[str, str]]:
        """Wait until every source has so many finished cycles; (start, end) of each source's last one."""
        deadline = time.monotonic() + timeout_s
        query = "SELECT started_at, finished_at FROM sync_runs WHERE data_source = ? ORDER BY id"
        while time.monotonic() < deadline:
            try:
                with closing(sqlite3.connect(f"file:{self.folder / 'worklist.db'}?mode=ro", uri=True)) as connection:
                    runs = [connection.execute(query, (name,)).fetchall() for name in self.names]
                if all(len(one) >= number for one in runs):
                    return [one[number - 1] for one in runs]
            except sqlite3.OperationalError:
                pass
            time.sleep(0.05)
        raise TimeoutError(f"not every source has finished {number} cycles")

    def sync(self) -> None:
        """Let every source fetch now, as `pylantir-supervisor sync` does."""
        for name in self.names:
            ask_supervisor(self.folder / "run", {"command": "sync", "name": name})

    def peak_mb(self, title: str) -> float:
        """The most memory that one of its processes has held (resident set, its highest value)."""
        status = Path(f"/proc/{self._child(title).pid}/status").read_text(encoding="utf-8")
        return int(status.split("VmHWM:")[1].split()[0]) / 1024

    def processor_s(self, title: str) -> float:
        """Processor time that one of its processes has used so far."""
        times = self._child(title).cpu_times()
        return float(times.user + times.system)

    def _child(self, title: str) -> psutil.Process:
        for child in psutil.Process(self.process.pid).children():
            if child.cmdline()[0].startswith(f"pylantir: {title}"):
                return child
        raise ProcessLookupError(title)

    def stop(self) -> None:
        """End it in order."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)


def seconds_between(spans: list[tuple[str, str]]) -> float:
    """From the first start to the last commit."""
    started = min(datetime.fromisoformat(span[0]) for span in spans)
    return (max(datetime.fromisoformat(span[1]) for span in spans) - started).total_seconds()


def measure(rows: int, sources: int) -> dict[str, float]:
    """One run: the raw limit, then a first sync, the same file again, and one with 1 % changed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prefixes = [f"S{number}" if sources > 1 else "" for number in range(sources)]
        for number, prefix in enumerate(prefixes):
            write_rows(folder / f"source_{number}.csv", rows, prefix)
        raw = [time_raw_limit(folder / "source_0.csv", folder)]
        instance = Instance(folder, sources)
        try:
            first = seconds_between(instance.wait_for_runs(1))
            used = instance.processor_s("writer")
            instance.sync()
            again = seconds_between(instance.wait_for_runs(2))
            used = instance.processor_s("writer") - used
            for number, prefix in enumerate(prefixes):
                write_rows(folder / f"source_{number}.csv", rows, prefix, changed_every=100)
            # A file so young that somebody might still be writing it is looked at twice: that is no part of the work.
            time.sleep(SETTLED_AFTER_S)
            instance.sync()
            changed = seconds_between(instance.wait_for_runs(3))
            memory = {f"peak of {who}": instance.peak_mb(who) for who in ("writer", "source source_0")}
        finally:
            instance.stop()
        # A machine's speed changes: before and after, so that the ratio is to what it was in between.
        raw.append(time_raw_limit(folder / "source_0.csv", folder))
    times = {"first sync": first, "nothing changed": again, "… the writer was busy": used, "1 % changed": changed}
    return {"raw limit": statistics.mean(raw), **times, **memory}


def main() -> None:
    """Print the medians and their ratios to the raw limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--sources", type=int, default=1)
    options = parser.parse_args()
    runs = [measure(options.rows, options.sources) for _ in range(options.runs)]
    print(f"{options.rows} rows, {options.sources} source(s), medians of {options.runs}")
    for name in runs[0]:
        median = statistics.median(run[name] for run in runs)
        ratio = statistics.median(run[name] / run["raw limit"] for run in runs)
        is_memory = name.startswith("peak")
        print(
            f"{name:<24} {median:7.1f} MB"
            if is_memory
            else f"{name:<24} {median:7.2f} s   {ratio:5.2f} x the raw limit"
        )


if __name__ == "__main__":
    main()
