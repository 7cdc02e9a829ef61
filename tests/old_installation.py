"""What an installation of an earlier version leaves behind: its configuration, its database, its REDCap project."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from redcap_server import CPIP_METADATA, Row, base_row, field, mri_row

CONFIGURATION: dict[str, Any] = {
    "db_path": "worklist.db",
    "db_echo": "False",
    "db_update_interval": 1,
    "operation_interval": {"start_time": [0, 0], "end_time": [23, 59]},
    "allowed_aet": [],
    "site": "792",
    "redcap2wl": {
        "study_id": "study_id",
        "family_id": "family_id",
        "youth_dob_y": "youth_dob_y",
        "t1_date": "t1_date",
        "demo_sex": "demo_sex",
        "mri_wt_lbs": "patient_weight_lb",
        "mri_operator": "performing_physician",
        "status": "performed_procedure_step_status",
    },
    "protocol": {"792": "BRAIN_MRI_3T", "mapping": "GEHC"},
}
METADATA = [*CPIP_METADATA, field("mri_operator", "mri"), field("mri_wt_lbs", "mri"), field("status", "mri")]

COLUMNS_02 = """id INTEGER PRIMARY KEY, study_instance_uid VARCHAR(100), patient_name VARCHAR(100),
    patient_id VARCHAR(50) NOT NULL, patient_birth_date VARCHAR(10), patient_sex VARCHAR(1), patient_weight_lb VARCHAR(10),
    accession_number VARCHAR(50), referring_physician_name VARCHAR(100), modality VARCHAR(10),
    study_description VARCHAR(100), scheduled_station_aetitle VARCHAR(100), scheduled_start_date VARCHAR(10),
    scheduled_start_time VARCHAR(6), performing_physician VARCHAR(100), procedure_description VARCHAR(200),
    protocol_name VARCHAR(100), station_name VARCHAR(100), hisris_coding_designator VARCHAR(100),
    performed_procedure_step_status VARCHAR(10)"""
COLUMNS_04 = (
    COLUMNS_02 + ", data_source VARCHAR(50), source_record_id VARCHAR(100), UNIQUE (data_source, source_record_id)"
)

OLD_ROWS = (
    ("1.2.3.1", "cpip-id-101^fa-7", "sub-101_ses-1.0_fam-7_site-792", "2030-01-30", "10:15", "SCHEDULED"),
    ("1.2.3.2", "cpip-id-102^fa-7", "sub_102_ses_1_fam_7_site_792", "2030-01-31", "11:00", "COMPLETED"),
)


def make_old_database(path: Path, version: str, rows: Iterable[tuple[str, ...]] = OLD_ROWS) -> None:
    """Write a worklist as version 0.2 (without source columns) or 0.4 does.

    Args:
        path: The file.
        version: "0.2" or "0.4".
        rows: Study UID, name, patient ID, date, time and status of each item.
    """
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"CREATE TABLE worklist_items ({COLUMNS_02 if version == '0.2' else COLUMNS_04})")
        connection.executemany(
            "INSERT INTO worklist_items (study_instance_uid, patient_name, patient_id, scheduled_start_date,"
            " scheduled_start_time, performed_procedure_step_status, patient_birth_date, patient_sex, modality,"
            " study_description, protocol_name, hisris_coding_designator)"
            " VALUES (?, ?, ?, ?, ?, ?, '2010-01-01', 'M', 'MR', 'CPIP', 'BRAIN_MRI_3T', 'GEHC')",
            rows,
        )
        if version == "0.4":
            connection.execute(
                "UPDATE worklist_items SET data_source = 'redcap_legacy', source_record_id = 'old-' || id"
            )


def participant(number: int, *, date: str, time: str, family: str = "F-7", **scan: str) -> list[Row]:
    """Give the rows of one participant with one scan, as REDCap exports them."""
    person = {"study_id": f"CPIP-{number}", "family_id": family, "youth_dob_y": "2010", "demo_sex": "1"}
    visit = {"mri_instance": "1", "mri_date": date, "mri_time": time, **scan}
    return [base_row(str(number), **person), mri_row(str(number), 1, **visit)]
