"""`mpps.own_only`: a performed step is changed and retrieved by the AE title alone that created it."""

from __future__ import annotations

import pytest

from pylantir.dicom.mpps.service import MppsPorts, MppsService
from pylantir.dicom.net.commands import Operation
from pylantir.dicom.net.refusals import Peer
from pylantir.dicom.net.services import ReportRequest
from pylantir.mpps.model import MppsAnswer

CREATORS = {"1.2.3": "MR1"}


def status_for(caller: str, operation: Operation, uid: str = "1.2.3", *, own_only: bool = True) -> int:
    ports = MppsPorts(
        report=lambda request: MppsAnswer(status=0, sop_instance_uid=request.sop_instance_uid),
        retrieve=lambda _uid: {"00100020": {"vr": "LO", "Value": ["P1"]}},
        creator=CREATORS.get if own_only else None,
    )
    peer = Peer(host="10.0.0.1", calling=caller, called="PYLANTIR")
    request = ReportRequest(
        operation=operation, peer=peer, caller=caller, instance_uid=uid, data=b"", explicit_vr=True
    )  # fmt: skip
    return MppsService(ports).answer(request).status


@pytest.mark.parametrize("operation", [Operation.N_SET, Operation.N_GET])
def test_another_titles_step_is_neither_changed_nor_shown(operation: Operation) -> None:
    assert status_for("MR1", operation) == 0x0000
    assert status_for("CT1", operation) == 0x0124
    assert status_for("CT1", operation, own_only=False) == 0x0000


def test_what_nobody_created_is_decided_as_ever() -> None:
    assert status_for("CT1", Operation.N_SET, "9.9") == 0x0000
    assert status_for("CT1", Operation.N_CREATE) == 0x0000
