"""Notes which scanner was shown which items, and who was refused, for the access log and the audit messages.

Lives in the server process; called from association threads and the main loop. Only keys of a question are noted, never
its values. What is noted goes to the writer through the `AccessBuffer`.
"""

from __future__ import annotations

from collections.abc import Callable

from pydicom.datadict import keyword_for_tag

from pylantir.dicom.find.answers import Answered
from pylantir.dicom.net.commands import Ending, Operation
from pylantir.dicom.net.refusals import Peer, Reason
from pylantir.dicom.net.services import FindExchange, ReportRequest
from workers.child.accesses import AccessBuffer

SECURITY_REASONS = frozenset(
    {
        Reason.HOST, Reason.TLS, Reason.CERTIFICATE, Reason.CALLING_TITLE, Reason.CALLED_TITLE, Reason.PROTOCOL_VERSION,
        Reason.APPLICATION_CONTEXT, Reason.UNREADABLE_REQUEST, Reason.NO_DICOM,
    }
)  # fmt: skip
"""Why an association is refused; a lack of places, or what happens within an association, is no matter of security."""


class Shown:
    """What scanners were shown."""

    def __init__(self, accesses: AccessBuffer) -> None:
        self._accesses = accesses

    def note_query(self, exchange: FindExchange, answered: Answered) -> None:
        """Note the answer to a query."""
        self._accesses.note(
            "C-FIND",
            address=exchange.peer.host,
            peer=exchange.caller,
            certificate=exchange.peer.certificate,
            asked=answered.asked,
            status="abandoned" if answered.status is None else f"{answered.status:04X}",
            matches=answered.matches,
            item_ids=answered.item_ids,
        )

    def noting(self, answer: Callable[[ReportRequest], Ending]) -> Callable[[ReportRequest], Ending]:
        """Wrap the service of reports so that retrieved steps are noted."""

        def noted(request: ReportRequest) -> Ending:
            ending = answer(request)
            if request.operation is Operation.N_GET:
                self._accesses.note(
                    "N-GET",
                    address=request.peer.host,
                    peer=request.caller,
                    certificate=request.peer.certificate,
                    asked=[keyword_for_tag(tag) or f"{tag:08X}" for tag in request.attributes] or ["SOPInstanceUID"],
                    status=f"{ending.status:04X}",
                    matches=1 if ending.data else 0,
                    instance_uid=request.instance_uid if ending.data else None,
                )
            return ending

        return noted

    def note_refusal(self, reason: Reason, peer: Peer, text: str) -> None:
        """Note an association that was refused."""
        if reason in SECURITY_REASONS:
            self._accesses.alert("association", address=peer.host, peer=peer.calling, text=f"{reason}: {text}")
