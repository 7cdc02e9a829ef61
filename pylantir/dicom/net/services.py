"""What the network side asks of the services behind it, and which request goes to which of them.

Lives in the server process. It knows neither the worklist nor reports: the process body hands in one function for each.
Pure: commands come in, a verdict goes out.

Source: DICOM PS3.7 9.1 and 10.1 (statuses of the operations), PS3.4 F.7, F.8 and K.4.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from pylantir.dicom.net.bounds import IDENTIFIER_BOUNDS, excess_of, report_bounds
from pylantir.dicom.net.commands import Command, Ending, Operation
from pylantir.dicom.net.messages import MAX_IDENTIFIER_BYTES, Message
from pylantir.dicom.net.negotiation import AcceptedContext, AssociationRequest
from pylantir.dicom.net.refusals import Peer

VERIFICATION = "1.2.840.10008.1.1"
WORKLIST_FIND = "1.2.840.10008.5.1.4.31"
MPPS = "1.2.840.10008.3.1.2.3.3"
MPPS_RETRIEVE = "1.2.840.10008.3.1.2.3.4"

IMPLICIT_VR, EXPLICIT_VR = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
TRANSFER_SYNTAXES = (EXPLICIT_VR, IMPLICIT_VR)
"""The preferred one first."""

NO_SUCH_CLASS = 0x0118
SOP_CLASS_NOT_SUPPORTED = 0x0122
UNRECOGNISED_OPERATION = 0x0211
IDENTIFIER_MISMATCH = 0xA900
PROCESSING_FAILURE = 0x0110
RESOURCE_LIMITATION = 0x0213
_WRONG_CLASS_ID, _WRONG_OPERATION_ID, _UNAVAILABLE_ID = 10, 11, 13
_TOO_LARGE_ID = 15
"""The Error ID of a report that is larger than can be stored."""
_OPERATIONS = {
    VERIFICATION: frozenset({Operation.C_ECHO}),
    WORKLIST_FIND: frozenset({Operation.C_FIND}),
    MPPS: frozenset({Operation.N_CREATE, Operation.N_SET}),
    MPPS_RETRIEVE: frozenset({Operation.N_GET}),
}
OFFERED = tuple(_OPERATIONS)
"""SOP classes, all of them."""


class FindExchange(Protocol):
    """One C-FIND request, and the way back to who asked.

    Attributes:
        peer: Who asks: the address and both AE titles.
        caller: Its AE title.
        request: The request for the association on which it asks.
        context: The presentation context on which it asks.
        identifier: As it came.
        explicit_vr: Of the presentation context: explicit VR little endian, else implicit.
    """

    peer: Peer
    caller: str
    request: AssociationRequest
    context: AcceptedContext
    identifier: bytes
    explicit_vr: bool

    def send(self, identifiers: Sequence[bytes], status: int) -> None:
        """Send pending responses."""

    def conclude(self, ending: Ending) -> bool:
        """Send the last response; return whether it could be sent."""

    def is_cancelled(self) -> bool:
        """Whether a C-CANCEL has come meanwhile."""

    def is_over(self) -> bool:
        """Whether nobody is left to answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportRequest:
    """An N-CREATE, N-SET or N-GET of a performed procedure step.

    Attributes:
        data: The attribute or modification list as it came, encoded.
        explicit_vr: How it is encoded, and the answer is to be.
        attributes: The tags that an N-GET asks for; empty for all.
    """

    operation: Operation
    peer: Peer
    caller: str
    instance_uid: str | None
    data: bytes
    explicit_vr: bool
    attributes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What answers, called in the association's thread, several at once.

    Attributes:
        query: Answers a worklist query.
        report: Answers a report; None: no reports are taken.
    """

    query: Callable[[FindExchange], None]
    report: Callable[[ReportRequest], Ending] | None = None

    @property
    def sop_classes(self) -> tuple[str, ...]:
        """The SOP classes to offer."""
        return (VERIFICATION, WORKLIST_FIND) if self.report is None else OFFERED


def refusal_of(command: Command, abstract_syntax: str) -> Ending | None:
    """Say why a request cannot be served on its presentation context; None: it can.

    A request that names no SOP class means its presentation context's.
    """
    operation = command.operation
    if operation is Operation.C_ECHO and command.sop_class in {None, VERIFICATION}:
        # "Are you there?" means the same on any presentation context.
        return None
    if operation is Operation.C_FIND:
        if abstract_syntax == WORKLIST_FIND and command.sop_class in {None, WORKLIST_FIND}:
            return None
        return Ending(status=SOP_CLASS_NOT_SUPPORTED, comment="queries are answered for the modality worklist only")
    if operation not in _OPERATIONS[abstract_syntax]:
        comment = f"this SOP class has no {operation}"
        return _refused(UNRECOGNISED_OPERATION, _WRONG_OPERATION_ID, comment, command)
    classes = {None, abstract_syntax}
    if abstract_syntax == MPPS_RETRIEVE:
        # A request to retrieve may name the class of the instance or the one that retrieves it.
        classes.add(MPPS)
    if command.sop_class not in classes:
        if operation is Operation.C_ECHO:
            return Ending(status=SOP_CLASS_NOT_SUPPORTED, comment="the request is for another SOP class")
        return _refused(NO_SUCH_CLASS, _WRONG_CLASS_ID, "the request is for another SOP class", command)
    return None


def excess_refusal(message: Message, context: AcceptedContext) -> Ending | None:
    """Refuse a data set that would cost too much to decode, before anybody decodes it; None: it may be decoded."""
    is_explicit = context.transfer_syntax == EXPLICIT_VR
    if message.command.operation is Operation.C_FIND:
        if message.data_bytes > MAX_IDENTIFIER_BYTES:
            comment = f"the identifier has more than {MAX_IDENTIFIER_BYTES} bytes"
            return Ending(status=IDENTIFIER_MISMATCH, comment=comment)
        excess = excess_of(message.data, IDENTIFIER_BOUNDS, explicit_vr=is_explicit)
        return Ending(status=IDENTIFIER_MISMATCH, comment=f"the identifier has {excess}") if excess else None
    excess = excess_of(message.data, report_bounds(len(message.data)), explicit_vr=is_explicit)
    if excess is None:
        return None
    comment = f"the data set has {excess}"
    return Ending(
        status=PROCESSING_FAILURE, comment=comment, error_id=_TOO_LARGE_ID, instance_uid=message.command.instance_uid
    )


def busy_refusal(command: Command) -> Ending:
    """Put off a large report, because others take their time."""
    return _refused(RESOURCE_LIMITATION, _UNAVAILABLE_ID, "other large reports are being stored; try again", command)


def _refused(status: int, error_id: int, comment: str, command: Command) -> Ending:
    is_n_service = command.operation.name.startswith("N_")
    return Ending(
        status=status,
        comment=comment,
        error_id=error_id if is_n_service else None,
        instance_uid=command.instance_uid if is_n_service else None,
    )
