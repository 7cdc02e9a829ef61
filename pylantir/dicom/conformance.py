"""The tables of the DICOM conformance statement, made from what the server really does.

Lives in a command and in the test of the documentation: `python -m pylantir.dicom.conformance FILE` brings the tables
in FILE up to date. Between `<!-- table: NAME -->` and the next `<!-- end -->` stands what is made here.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from pydicom.uid import UID

from pylantir.dicom.find.attributes import SPS, WIRE_STATUSES, WORKLIST_ATTRIBUTES
from pylantir.dicom.net import admission, bounds, bridge, connection, messages, negotiation, reception, services
from pylantir.dicom.peers import DIFFERENCES
from pylantir.settings import CHARACTER_SETS, DicomSettings

_MATCHING = {
    "none": "",
    "text": "single value, wildcard, list",
    "uid": "list of UID",
    "name": "single value, wildcard; letter case does not matter",
    "date": "single value, range",
    "time": "single value, range",
    "status": "single value, wildcard, list",
}
_TABLE = re.compile(r"(<!-- table: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def update_tables(text: str) -> str:
    """Replace the tables of a conformance statement by what holds now.

    Raises:
        KeyError: It asks for a table that does not exist.
    """
    tables = _tables()
    return _TABLE.sub(lambda match: match[1] + tables[match[2]]() + match[3], text)


def _tables() -> Mapping[str, Callable[[], str]]:
    return {
        "sop-classes": _sop_classes,
        "implementation": _implementation,
        "limits": _limits,
        "presentation-contexts": _presentation_contexts,
        "keys": _keys,
        "statuses": _statuses,
        "differences": _differences,
        "character-sets": _character_sets,
    }


def _markdown(header: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "".join("| " + " | ".join(str(cell) for cell in line) + " |\n" for line in lines)


def _sop_class_rows() -> list[tuple[str, str]]:
    return [(UID(uid).name, str(uid)) for uid in services.OFFERED]


def _sop_classes() -> str:
    rows = [(name, uid, "no", "yes") for name, uid in _sop_class_rows()]
    return _markdown(("SOP class", "UID", "SCU", "SCP"), rows)


def _implementation() -> str:
    rows = [
        ("Implementation class UID", bridge.IMPLEMENTATION_CLASS),
        ("Implementation version name", bridge.IMPLEMENTATION_VERSION),
        ("Application context name", negotiation.APPLICATION_CONTEXT),
    ]
    return _markdown(("", "value"), rows)


def _limits() -> str:
    defaults = DicomSettings()
    rows = [
        ("Associations at one time", f"{defaults.max_associations} (`dicom.max_associations`)"),
        ("Of one host", f"{defaults.max_associations_per_host} (`dicom.max_associations_per_host`)"),
        ("Connections without an association", f"{reception.MAX_GUESTS}, the oldest gives way"),
        ("Time for the association request, TLS included", f"{reception.REQUEST_TIMEOUT_S:.0f} s"),
        ("Time without any message", f"{defaults.idle_timeout_s:.0f} s (`dicom.idle_timeout`)"),
        ("Time for one PDU", f"{connection.PDU_TIMEOUT_S:.0f} s"),
        ("Time for one message", f"{messages.MESSAGE_TIMEOUT_S:.0f} s"),
        ("Maximum PDU length that is offered", f"{negotiation.OFFERED_PDU_BYTES} bytes"),
        ("Longest PDU that is read", f"{connection.MAX_PDU_BYTES} bytes"),
        ("Longest association request", f"{admission.MAX_REQUEST_BYTES} bytes"),
        ("Longest message", f"{messages.MAX_MESSAGE_BYTES} bytes"),
        ("Outstanding requests (asynchronous operations)", "1, not negotiated"),
        ("Longest identifier of a C-FIND", f"{messages.MAX_IDENTIFIER_BYTES} bytes"),
        ("Elements and items of an identifier", bounds.IDENTIFIER_BOUNDS.elements),
        ("Values of one element of an identifier", bounds.IDENTIFIER_BOUNDS.values),
        ("Nesting of an identifier", f"{bounds.IDENTIFIER_BOUNDS.nesting} levels"),
        (
            "Elements and items of a report",
            f"{bounds.REPORT_ELEMENTS}, and one for each {bounds.REPORT_BYTES_PER_ELEMENT} bytes",
        ),
        ("Values of one element of a report", bounds.REPORT_VALUES),
    ]
    return _markdown(("limit", "value"), rows)


def _presentation_contexts() -> str:
    syntaxes = [(UID(uid).name, str(uid)) for uid in services.TRANSFER_SYNTAXES]
    rows = [
        (name, uid, syntax, syntax_uid, "SCP", "none")
        for name, uid in _sop_class_rows()
        for syntax, syntax_uid in syntaxes
    ]
    return _markdown(
        ("abstract syntax", "UID", "transfer syntax", "UID", "role", "extended negotiation"),
        rows,
    )


def _keys() -> str:
    rows = [
        (
            "> " * len(attribute.path) + attribute.keyword,
            f"({attribute.tag >> 16:04X},{attribute.tag & 0xFFFF:04X})",
            attribute.vr,
            "sequence" if attribute.keyword == SPS else _MATCHING[attribute.matching],
            "R" if attribute.required else "O" if attribute.matching != "none" else "",
            attribute.return_type,
        )
        for attribute in WORKLIST_ATTRIBUTES
    ]
    return _markdown(("attribute", "tag", "VR", "matching", "key", "return type"), rows)


def _statuses() -> str:
    return _markdown(("stored", "Scheduled Procedure Step Status"), list(WIRE_STATUSES.items()))


def _differences() -> str:
    rows = [
        (kind.name, kind.clause, kind.here, "; ".join(f"{server}: {what}" for server, what in kind.there.items()))
        for kind in DIFFERENCES
    ]
    return _markdown(("difference", "standard", "Pylantir", "others"), rows)


def _character_sets() -> str:
    return ", ".join(f"`{term}`" for term in CHARACTER_SETS) + "\n"


def main(arguments: list[str]) -> None:
    """Bring the tables of the files up to date."""
    for name in arguments:
        file = Path(name)
        file.write_text(update_tables(file.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
