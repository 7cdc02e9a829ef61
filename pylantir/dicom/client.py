"""Asking a worklist server as a scanner does: C-ECHO and C-FIND.

Lives in the commands. A peer and matching keys by worklist field come in, what the server sent comes out by worklist
field as well; the keywords stay in here.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    ModalityWorklistInformationFind,
    Verification,
)

from pylantir.dicom.find.attributes import SPS, WORKLIST_ATTRIBUTES, WorklistAttribute
from pylantir.dicom.tls import make_client_context
from pylantir.entry import WEIGHT_KG_FIELD
from pylantir.errors import DicomPeerError
from pylantir.settings import TlsSettings

CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 30.0
_ATTEMPTS = 2
"""pynetdicom now and then takes a rejection that is followed by the end of the connection for an abort."""

_SUCCESS = 0x0000
_PENDING = (0xFF00, 0xFF01)
_WARNINGS = range(0xB000, 0xC000)
_CALLING_TITLE_UNKNOWN = (1, 3)
_CALLED_TITLE_UNKNOWN = (1, 7)


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A server, as whom to ask it, and with which certificates if it speaks TLS."""

    host: str
    port: int
    called: str
    calling: str
    tls: TlsSettings | None = None

    def __str__(self) -> str:
        return f"{self.called} at {self.host}:{self.port}"


def echo(peer: Peer) -> None:
    """Send one C-ECHO.

    Raises:
        DicomPeerError: The server cannot be reached, refuses, or does not answer with success.
    """
    with open_association(peer, Verification) as association:
        check_status(peer, association.send_c_echo())


def find_scheduled(peer: Peer, keys: Mapping[str, str]) -> list[dict[str, str]]:
    """Send one C-FIND for scheduled procedure steps, which asks for everything that the worklist can give.

    Args:
        peer: Whom to ask.
        keys: Worklist field -> what it has to match, as DICOM writes it (wildcards, ranges).

    Returns:
        Per match, worklist field -> value, empty where unknown. The weight is in kg, the status in DICOM's terms.

    Raises:
        DicomPeerError: As `echo`.

    Source: DICOM PS3.4 K.6.1.2 (worklist attributes).
    """
    with open_association(peer, ModalityWorklistInformationFind) as association:
        matches = []
        for status, identifier in association.send_c_find(_identifier(keys), ModalityWorklistInformationFind):
            if status and status.Status in _PENDING:
                matches.append(_fields(identifier or Dataset()))
            else:
                check_status(peer, status)
        return matches


_ASKED = tuple(attribute for attribute in WORKLIST_ATTRIBUTES if attribute.fields and attribute.path in {(), (SPS,)})


def _name(attribute: WorklistAttribute) -> str:
    return WEIGHT_KG_FIELD if attribute.keyword == "PatientWeight" else attribute.fields[0]


def _identifier(keys: Mapping[str, str]) -> Dataset:
    step, identifier = Dataset(), Dataset()
    for attribute in _ASKED:
        setattr(step if attribute.path else identifier, attribute.keyword, keys.get(_name(attribute), ""))
    setattr(identifier, SPS, [step])
    if not all(value.isascii() for value in keys.values()):
        identifier.SpecificCharacterSet = "ISO_IR 192"
    return identifier


def _fields(identifier: Dataset) -> dict[str, str]:
    steps = identifier.get(SPS)
    step = steps[0] if steps else Dataset()
    return {
        _name(attribute): _text((step if attribute.path else identifier).get(attribute.keyword)) for attribute in _ASKED
    }


def _text(value: object) -> str:
    if isinstance(value, MultiValue):
        return "\\".join(map(str, value))
    return "" if value is None else str(value)


@contextmanager
def open_association(peer: Peer, *sop_classes: str) -> Iterator[Association]:
    """Ask for an association, and release it at the end.

    Raises:
        DicomPeerError: The server cannot be reached, or refuses.
    """
    tls = (make_client_context(peer.tls), None) if peer.tls else None
    try:
        entity = AE(ae_title=peer.calling)
        for sop_class in sop_classes:
            entity.add_requested_context(sop_class)
        entity.connection_timeout = CONNECT_TIMEOUT_S
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = ANSWER_TIMEOUT_S
        connected: list[object] = []
        handlers = [(evt.EVT_CONN_OPEN, connected.append)]
        for _ in range(_ATTEMPTS):
            association = entity.associate(
                peer.host,
                peer.port,
                ae_title=peer.called,
                evt_handlers=handlers,  # type: ignore[arg-type]
                tls_args=tls,  # type: ignore[arg-type]
            )
            if association.is_established or association.is_rejected or not connected:
                break
    except (ValueError, TypeError) as error:
        raise DicomPeerError(f"cannot ask {peer}: {error}") from None
    except OSError:
        raise DicomPeerError(_describe_unreachable(peer)) from None
    if not association.is_established:
        raise DicomPeerError(_describe_refusal(peer, association) if connected else _describe_unreachable(peer))
    leave_answers_to_requests(association)
    try:
        yield association
    finally:
        association.release()


def leave_answers_to_requests(association: Association) -> None:
    """Let nobody take an answer but the request that waits for it.

    pynetdicom's own thread takes messages of the peer between our requests. It is released after an answer; on a busy
    machine it may wake only during the next request, take that answer, and drop it. A scanner gets no requests.
    """
    take = association.dimse.get_msg

    def take_if_awaited(block: bool = False) -> Any:
        return take(block=True) if block else (None, None)

    association.dimse.get_msg = take_if_awaited  # type: ignore[method-assign]


def _describe_refusal(peer: Peer, association: Association) -> str:
    answer = association.acceptor.primitive
    if not association.is_rejected or answer is None:
        return f"{peer} ended the association; it offers no worklist, or is no DICOM server"
    reason = (answer.result_source, answer.diagnostic)
    if reason == _CALLING_TITLE_UNKNOWN:
        return f'rejected by {peer}: the calling AE title "{peer.calling}" is not in its allowed_aet; see --calling'
    if reason == _CALLED_TITLE_UNKNOWN:
        return f'rejected by {peer}: its AE title is not "{peer.called}"; see --AEtitle'
    return f"rejected by {peer}: {answer.reason_str}"


def _describe_unreachable(peer: Peer) -> str:
    """Tell why there was no connection, which the library does not: by trying once more."""
    try:
        with socket.create_connection((peer.host, peer.port), CONNECT_TIMEOUT_S):
            return f"{peer} closed the connection at once; try again"
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return f"cannot connect to {peer}: {reason}; does the server run, and is the address right?"


def check_status(peer: Peer, status: Dataset) -> None:
    """Raise a DicomPeerError unless an answer says success."""
    code = status.get("Status")
    if code is None:
        raise DicomPeerError(f"{peer} did not answer, or ended the association")
    if code != _SUCCESS and code not in _WARNINGS:
        comment = status.get("ErrorComment")
        raise DicomPeerError(f"{peer} answered with status 0x{code:04X}" + (f": {comment}" if comment else ""))
