"""Database files of earlier versions open, and the next sync recognises what is in them."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import pytest
from old_installation import OLD_ROWS, make_old_database
from worklist_store import in_columns

from pylantir.ipc.cycles import CycleEnd, EntryBatch
from pylantir.store.clock import utc_now
from pylantir.store.decide.claims import Rules
from pylantir.store.intake.cycle import SourceIngest
from pylantir.store.schema.engine import open_for_writing
from pylantir.store.schema.upgrade import prepare_database


@pytest.fixture(params=["0.2", "0.4"])
def old_file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "worklist.db"
    make_old_database(path, request.param)
    return path


def items(path: Path) -> list[dict[str, object]]:
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute("SELECT * FROM worklist_items ORDER BY id")]


def sync(
    path: Path, records: Mapping[str, Mapping[str, str]], source: str = "redcap_legacy", others: tuple[str, ...] = ()
) -> None:
    engine = open_for_writing(f"sqlite:///{path}")
    prepare_database(engine)
    ingest = SourceIngest(engine, source, Rules(ranks={name: rank for rank, name in enumerate((source, *others))}))
    started_at = utc_now()
    batch = in_columns([(key, dict(fields)) for key, fields in records.items()])
    ingest.apply_batch(EntryBatch(cycle="c", seq=1, started_at=started_at, snapshot=True, records=batch))
    ingest.finish_cycle(CycleEnd(cycle="c", seq=2, started_at=started_at, complete=True))
    engine.dispose()


def record(number: int, date: str, time: str) -> dict[str, str]:
    return {
        "source_record_id": f"r{number}",
        "patient_id": f"sub_{number}_ses_1_fam_7_site_792",
        "patient_name": f"cpip-id-{number}^fa-7",
        "patient_birth_date": "20100101",
        "modality": "MR",
        "scheduled_start_date": date,
        "scheduled_start_time": time,
    }


def test_old_file_is_copied_aside_and_normalised(old_file: Path) -> None:
    before = items(old_file)
    engine = open_for_writing(f"sqlite:///{old_file}")
    prepare_database(engine)
    engine.dispose()
    (copy,) = old_file.parent.glob("worklist.db.*.backup")
    assert items(copy) == before
    assert copy.stat().st_mode & 0o777 == old_file.stat().st_mode & 0o777 == 0o600
    first, second = items(old_file)
    assert (first["scheduled_start_date"], first["scheduled_start_time"]) == ("20300130", "101500")
    assert first["patient_birth_date"] == "20100101"
    assert first["patient_id"] == "sub_101_ses_1_fam_7_site_792"
    assert (first["study_instance_uid"], second["study_instance_uid"]) == ("1.2.3.1", "1.2.3.2")
    assert (first["scanner_touched"], second["scanner_touched"]) == (0, 1)


def test_opening_again_copies_and_changes_nothing(old_file: Path) -> None:
    for _ in range(2):
        engine = open_for_writing(f"sqlite:///{old_file}")
        prepare_database(engine)
        engine.dispose()
    assert len(list(old_file.parent.glob("worklist.db.*.backup"))) == 1


def test_next_sync_takes_the_items_over(old_file: Path) -> None:
    sync(old_file, {"id:r101": record(101, "20300202", "090000"), "id:r102": record(102, "20300131", "110000")})
    first, second = items(old_file)
    assert (first["study_instance_uid"], first["scheduled_start_date"]) == ("1.2.3.1", "20300202")
    assert first["source_record_id"] == "r101"
    assert (second["study_instance_uid"], second["performed_procedure_step_status"]) == ("1.2.3.2", "COMPLETED")


def test_source_with_another_name_takes_over_what_nobody_configured_claims(old_file: Path) -> None:
    sync(old_file, {"id:r101": record(101, "20300130", "101500")}, source="site_a_redcap")
    taken, left = items(old_file)
    assert (taken["study_instance_uid"], taken["data_source"]) == ("1.2.3.1", "site_a_redcap")
    assert left["performed_procedure_step_status"] == "COMPLETED"


def test_completed_item_outlives_its_record(old_file: Path) -> None:
    sync(old_file, {"id:r101": record(101, "20300130", "101500")})
    sync(old_file, {"id:r101": record(101, "20300130", "101500")})
    first, second = items(old_file)
    assert (first["performed_procedure_step_status"], second["performed_procedure_step_status"]) == (
        "SCHEDULED",
        "COMPLETED",
    )


def test_item_without_a_site_in_its_patient_id_is_the_same_one(tmp_path: Path) -> None:
    path = tmp_path / "worklist.db"
    rows = [(uid, name, patient.split("_site")[0].replace("-", "_"), *rest) for uid, name, patient, *rest in OLD_ROWS]
    make_old_database(path, "0.4", rows)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE worklist_items SET data_source = 'REDCap'")
    sync(path, {"id:r101": record(101, "20300130", "101500"), "id:r102": record(102, "20300131", "110000")})
    first, second = items(path)
    assert (first["patient_id"], first["study_instance_uid"]) == ("sub_101_ses_1_fam_7_site_792", "1.2.3.1")
    assert (first["data_source"], first["performed_procedure_step_status"]) == ("redcap_legacy", "SCHEDULED")
    assert (second["patient_id"], second["study_instance_uid"]) == ("sub_102_ses_1_fam_7_site_792", "1.2.3.2")
    assert second["performed_procedure_step_status"] == "COMPLETED"


def test_old_item_that_redcap_no_longer_has_is_cancelled(tmp_path: Path) -> None:
    path = tmp_path / "worklist.db"
    make_old_database(
        path,
        "0.4",
        [(f"1.2.3.{n}", "", f"sub_{n}_ses_1_fam_7", "2030-01-30", "10:15", "SCHEDULED") for n in range(1, 4)],
    )
    sync(path, {f"id:r{n}": record(n, "20300130", "101500") for n in (1, 2)})
    assert [item["performed_procedure_step_status"] for item in items(path)] == ["SCHEDULED", "SCHEDULED", "CANCELED"]


def test_item_of_another_configured_source_is_not_taken_for_ours(tmp_path: Path) -> None:
    path = tmp_path / "worklist.db"
    make_old_database(path, "0.4", [("1.2.3.1", "", "sub_101_ses_1_fam_7", "2030-01-30", "10:15", "SCHEDULED")])
    sync(path, {"id:r101": record(101, "20300130", "101500")}, source="site_b", others=("redcap_legacy",))
    assert [item["patient_id"] for item in items(path)] == ["sub_101_ses_1_fam_7", "sub_101_ses_1_fam_7_site_792"]
