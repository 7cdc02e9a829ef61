"""Servers to measure, each as a process on loopback with the same worklist: Pylantir, wlmscpfs, Orthanc's plugin."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from benchmarks.raw_client import WORKLIST

STATIONS = 8
PER_STATION_AND_DAY = 84
ORTHANC_PLUGIN = Path("/usr/share/orthanc/plugins/libModalityWorklists.so")
MAPPING = {
    "record": "source_record_id",
    "mrn": "patient_id",
    "name": "patient_name",
    "born": "patient_birth_date",
    "sex": "patient_sex",
    "accession": "accession_number",
    "modality": "modality",
    "station": "scheduled_station_aetitle",
    "date": "scheduled_start_date",
    "time": "scheduled_start_time",
    "procedure": "procedure_description",
}


def write_schedule(path: Path, rows: int, *, shift_min: int = 0) -> None:
    """Write the schedule: a patient per row, so many per station and day; the times can be shifted."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(MAPPING)
        for number in range(rows):
            day = number // (STATIONS * PER_STATION_AND_DAY)
            minute = number // STATIONS % PER_STATION_AND_DAY * 10 + shift_min
            writer.writerow(
                [
                    f"R{number}", f"P{number:06d}", f"Name{number % 5000}^Given{number % 700}",
                    f"{1940 + number % 70}{1 + number % 12:02d}{1 + number % 28:02d}", "MF"[number % 2],
                    f"A{number:07d}", ("MR", "CT", "US")[number % 3], f"SCANNER{number % STATIONS}",
                    f"{2027 + day // 336}{1 + day // 28 % 12:02d}{1 + day % 28:02d}",
                    f"{8 + minute // 60:02d}{minute % 60:02d}", "Brain without contrast",
                ]
            )  # fmt: skip
    # The source looks at time and size.
    os.utime(path)


def free_port() -> int:
    """A port that nobody uses just now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


class Pylantir:
    """A whole installation with one CSV source."""

    def __init__(self, folder: Path, rows: int, **changes: Any) -> None:
        self.port = free_port()
        self.csv = folder / "schedule.csv"
        self._database = folder / "worklist.db"
        folder.mkdir()
        write_schedule(self.csv, rows)
        config: dict[str, Any] = {
            "db_path": "worklist.db",
            "runtime_dir": "run",
            "log": {"level": "ERROR"},
            "dicom": {"host": "127.0.0.1", "port": self.port, "max_associations_per_host": 100},
            "data_sources": [
                {
                    "name": "schedule",
                    "type": "csv",
                    "sync_interval": 36000,
                    "config": {"file_path": "schedule.csv"},
                    "field_mapping": MAPPING,
                }
            ],
            **changes,
        }
        self._config = folder / "pylantir.json"
        self._config.write_text(json.dumps(config), encoding="utf-8")
        self._command = [sys.executable, "-m", "workers.commands.cli"]
        self._process = subprocess.Popen([*self._command, "start", "--config", str(self._config)])

    def wait_for_cycles(self, number: int, timeout_s: float = 300.0) -> None:
        """Wait until the source has finished so many cycles."""
        deadline = time.monotonic() + timeout_s
        while self.cycles() < number:
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise TimeoutError(f"not {number} cycles")
            time.sleep(0.05)

    def cycles(self) -> int:
        """How many cycles the source has finished."""
        with suppress(sqlite3.OperationalError):
            return int(self.select("SELECT count(*) FROM sync_runs")[0][0])
        return 0

    def select(self, statement: str) -> list[tuple[Any, ...]]:
        """Read the database."""
        with closing(sqlite3.connect(f"file:{self._database}?mode=ro", uri=True)) as connection:
            return connection.execute(statement).fetchall()

    def sync(self) -> None:
        """Let the source fetch now."""
        command = [*self._command, "sync", "schedule", "--config", str(self._config)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def stop(self) -> None:
        """End it in order."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(30)


@contextmanager
def pylantir(folder: Path, rows: int, **changes: Any) -> Iterator[Pylantir]:
    """A running installation, its first cycle begun."""
    installation = Pylantir(folder, rows, **changes)
    try:
        yield installation
    finally:
        installation.stop()


def write_worklist_files(installation: Pylantir, folder: Path) -> None:
    """Write what Pylantir serves as the files that the other servers read."""
    folder.mkdir()
    (folder / "lockfile").touch()
    columns = (
        "id, patient_id, patient_name, patient_birth_date, patient_sex, accession_number, study_instance_uid, "
        "modality, scheduled_station_aetitle, scheduled_start_date, scheduled_start_time, procedure_description"
    )
    for row in installation.select(f"SELECT {columns} FROM worklist_items"):
        number, patient, name, born, sex, accession, uid, modality, station, date, time_, procedure = row
        whole, step = Dataset(), Dataset()
        step.Modality, step.ScheduledStationAETitle = modality, station
        step.ScheduledProcedureStepStartDate, step.ScheduledProcedureStepStartTime = date, time_
        step.ScheduledProcedureStepID, step.ScheduledProcedureStepDescription = str(number), procedure
        whole.AccessionNumber, whole.PatientName, whole.PatientID = accession, name, patient
        whole.PatientBirthDate, whole.PatientSex, whole.StudyInstanceUID = born, sex, uid
        whole.RequestedProcedureID, whole.RequestedProcedureDescription = str(number), procedure
        whole.ScheduledProcedureStepSequence = [step]
        whole.file_meta = FileMetaDataset()
        whole.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        whole.file_meta.MediaStorageSOPClassUID = WORKLIST
        whole.file_meta.MediaStorageSOPInstanceUID = f"1.2.4.{number}"
        whole.save_as(folder / f"{number}.wl", enforce_file_format=True)


@contextmanager
def wlmscpfs(files: Path) -> Iterator[int | None]:
    """DCMTK's server on a folder named PYLANTIR: its port; None if it is not installed."""
    program = shutil.which("wlmscpfs")
    if program is None:
        yield None
        return
    port = free_port()
    with _serving([program, "-dfp", str(files.parent), str(port)], port):
        yield port


@contextmanager
def orthanc(files: Path, folder: Path) -> Iterator[int | None]:
    """Orthanc with its worklist plugin: its port; None if it is not installed."""
    program = shutil.which("Orthanc")
    if program is None or not ORTHANC_PLUGIN.exists():
        yield None
        return
    port = free_port()
    folder.mkdir()
    config = {
        "StorageDirectory": str(folder),
        "IndexDirectory": str(folder),
        "HttpServerEnabled": False,
        "DicomPort": port,
        "DicomAet": "PYLANTIR",
        "DicomAlwaysAllowFindWorklist": True,
        "Plugins": [str(ORTHANC_PLUGIN)],
        "Worklists": {"Enable": True, "Database": str(files), "FilterIssuerAet": False, "LimitAnswers": 0},
    }
    (folder / "orthanc.json").write_text(json.dumps(config), encoding="utf-8")
    with _serving([program, str(folder / "orthanc.json")], port):
        yield port


@contextmanager
def _serving(command: list[str], port: int) -> Iterator[None]:
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + 30
            while True:
                with suppress(ConnectionRefusedError):
                    socket.create_connection(("127.0.0.1", port), timeout=5).close()
                    break
                if time.monotonic() > deadline or process.poll() is not None:
                    raise TimeoutError(f"{command[0]} does not listen")
                time.sleep(0.05)
            yield
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
