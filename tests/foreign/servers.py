"""Worklist servers of other makes, on loopback, each with the same entries in files: DCMTK's wlmscpfs and Orthanc."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from ports import free_port
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom.sop_class import ModalityWorklistInformationFind
from waiting import wait_until

ORTHANC_PLUGIN = Path("/usr/share/orthanc/plugins/libModalityWorklists.so")
IN_STEP = {
    "scheduled_station_aetitle": "ScheduledStationAETitle",
    "scheduled_start_date": "ScheduledProcedureStepStartDate",
    "scheduled_start_time": "ScheduledProcedureStepStartTime",
    "modality": "Modality",
    "performing_physician": "ScheduledPerformingPhysicianName",
    "station_name": "ScheduledStationName",
    "scheduled_step_location": "ScheduledProcedureStepLocation",
    "scheduled_procedure_step_id": "ScheduledProcedureStepID",
}
AT_TOP = {
    "patient_name": "PatientName",
    "patient_id": "PatientID",
    "patient_birth_date": "PatientBirthDate",
    "patient_sex": "PatientSex",
    "accession_number": "AccessionNumber",
    "study_instance_uid": "StudyInstanceUID",
    "requested_procedure_id": "RequestedProcedureID",
    "referring_physician_name": "ReferringPhysicianName",
    "requesting_physician": "RequestingPhysician",
    "admission_id": "AdmissionID",
}
KEYWORDS = {**IN_STEP, **AT_TOP}
"""Worklist field -> keyword of the attribute, as the files are written."""


def write_worklist_files(entries: Iterable[Mapping[str, str]], folder: Path) -> None:
    """Write a file for each entry; one without a value has the attribute all the same."""
    folder.mkdir()
    (folder / "lockfile").touch()
    for number, entry in enumerate(entries):
        whole, step = Dataset(), Dataset()
        for level, keywords in ((step, IN_STEP), (whole, AT_TOP)):
            for field, keyword in keywords.items():
                setattr(level, keyword, entry.get(field, ""))
        step.ScheduledProcedureStepDescription = whole.RequestedProcedureDescription = "Head"
        whole.ScheduledProcedureStepSequence = [step]
        whole.file_meta = FileMetaDataset()
        whole.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        whole.file_meta.MediaStorageSOPClassUID = ModalityWorklistInformationFind
        whole.file_meta.MediaStorageSOPInstanceUID = f"1.2.4.{number}"
        whole.save_as(folder / f"{number}.wl", enforce_file_format=True)


@contextmanager
def wlmscpfs(program: Path, entries: Iterable[Mapping[str, str]], folder: Path) -> Iterator[int]:
    """Serve the entries by DCMTK; gives the port."""
    port = free_port()
    folder.mkdir()
    write_worklist_files(entries, folder / "PYLANTIR")
    with _running([str(program), "--disable-file-reject", "-dfp", str(folder), str(port)], port):
        yield port


@contextmanager
def orthanc(program: str, entries: Iterable[Mapping[str, str]], folder: Path) -> Iterator[int]:
    """Serve the entries by Orthanc's worklist plugin, with a storage of its own in the folder; gives the port."""
    port = free_port()
    folder.mkdir()
    write_worklist_files(entries, folder / "worklist")
    configuration = {
        "StorageDirectory": str(folder),
        "IndexDirectory": str(folder),
        "HttpServerEnabled": False,
        "DicomPort": port,
        "DicomAet": "PYLANTIR",
        "DicomCheckCalledAet": False,
        "DicomAlwaysAllowFindWorklist": True,
        "Plugins": [str(ORTHANC_PLUGIN)],
        "Worklists": {
            "Enable": True,
            "Database": str(folder / "worklist"),
            "FilterIssuerAet": False,
            "LimitAnswers": 0,
        },
    }
    file = folder / "orthanc.json"
    file.write_text(json.dumps(configuration), encoding="utf-8")
    with _running([program, str(file)], port):
        yield port


def needed(program: str, package: str, *files: Path) -> str:
    """Give the path of a program of Debian's; without it the test fails in CI, and is skipped elsewhere."""
    found = shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin")
    if found and all(file.exists() for file in files):
        return found
    reason = f"{program} is needed: apt-get install {package}"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def _running(command: list[str], port: int) -> Iterator[None]:
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: process.poll() is not None or is_listening(port), f"{command[0]} listens")
            assert process.poll() is None, f"{command[0]} has ended"
            yield
        finally:
            process.kill()


def is_listening(port: int) -> bool:
    """Whether somebody takes connections at a port of this machine."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True
