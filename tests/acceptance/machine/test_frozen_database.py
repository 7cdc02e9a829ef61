"""A database server that hangs: scanners get a failure, `status` tells, and all goes on when it answers again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from frozen_relay import Relay
from installation import Installation, csv_source, wait_until
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE
from pynetdicom.sop_class import ModalityPerformedProcedureStep, ModalityWorklistInformationFind
from sqlalchemy import create_engine, make_url, text

PATIENCE_S = 60.0


@pytest.fixture
def relay(postgresql_server: str) -> Iterator[Relay]:
    made = Relay(f"{postgresql_server}/.s.PGSQL.5432")
    yield made
    made.close()


def ask(port: int) -> tuple[int | None, list[str]]:
    """Ask as a scanner does: the final status, and the patients."""
    ae = AE("MR1")
    ae.add_requested_context(ModalityWorklistInformationFind)
    ae.dimse_timeout = ae.acse_timeout = PATIENCE_S
    association = ae.associate("127.0.0.1", port)
    assert association.is_established
    query = Dataset()
    query.PatientID = ""
    answers = list(association.send_c_find(query, ModalityWorklistInformationFind))
    association.release()
    return answers[-1][0].get("Status"), [str(found.PatientID) for _, found in answers if found]


def report(port: int) -> int | None:
    """Report the beginning of an exam."""
    ae = AE("MR1")
    ae.add_requested_context(ModalityPerformedProcedureStep)
    ae.dimse_timeout = ae.acse_timeout = PATIENCE_S
    association = ae.associate("127.0.0.1", port)
    assert association.is_established
    step = Dataset()
    step.PerformedProcedureStepStatus = "IN PROGRESS"
    step.PatientID, step.Modality = "P1", "MR"
    step.PerformedProcedureStepID = "1"
    step.PerformedProcedureStepStartDate, step.PerformedProcedureStepStartTime = "20300101", "090000"
    scheduled = Dataset()
    scheduled.StudyInstanceUID = generate_uid()
    step.ScheduledStepAttributesSequence = [scheduled]
    status, _ = association.send_n_create(step, ModalityPerformedProcedureStep, generate_uid())
    association.release()
    return status.get("Status")  # type: ignore[no-any-return]


def test_a_frozen_database_is_told_and_forgiven_and_one_of_an_earlier_version_completed(
    installation: Installation, relay: Relay, postgresql_url: str
) -> None:
    installation.write_csv("a.csv", ["P1"])
    database = make_url(postgresql_url).database
    url = f"postgresql://pylantir@127.0.0.1:{relay.port}/{database}"
    installation.configure(
        csv_source("a", "a.csv"), db_path=None, db_url=url, cluster={"host": "host-a"}, mpps={"timeout": 2}
    )
    installation.start()
    wait_until(lambda: ask(installation.port) == (0, ["P1"]), installation.log)

    relay.frozen = True
    status, patients = ask(installation.port)
    assert (patients, f"{status:04X}"[0] in "AC") == ([], True)
    installation.wait_for_health("degraded", PATIENCE_S)
    assert installation.command("status").returncode == 1
    assert report(installation.port) not in {0, None}

    relay.frozen = False
    wait_until(lambda: ask(installation.port) == (0, ["P1"]), installation.log, PATIENCE_S)
    wait_until(lambda: report(installation.port) == 0, installation.log, PATIENCE_S)
    installation.wait_for_health("healthy", PATIENCE_S)

    # As after the restore of an old backup: the writer has to make what is missing.
    engine = create_engine(postgresql_url)
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE worklist_items DROP COLUMN special_needs; DROP TABLE mpps_requests"))
    wait_until(lambda: report(installation.port) == 0, installation.log, PATIENCE_S)
    installation.wait_for_health("healthy", PATIENCE_S)
    assert "the database is not as this writer made it" in installation.log()
    with engine.connect() as connection:
        assert connection.execute(text("SELECT special_needs FROM worklist_items")).all() == [(None,)]
    engine.dispose()
