"""The schema of audit messages (DICOM PS3.15 A.5.1), and what the tests read from a message."""

from __future__ import annotations

import functools
from pathlib import Path

from lxml import etree


@functools.cache
def schema() -> etree.RelaxNG:
    return etree.RelaxNG(etree.parse(Path(__file__).parent / "audit_message.rng"))


def valid(message: str) -> etree._Element:
    """Parse a message that has to meet the schema."""
    root = etree.fromstring(message.encode())
    schema().assertValid(root)
    return root


def event(message: str) -> tuple[str, str | None]:
    """The code of the event, and of its type."""
    identification = valid(message).find("EventIdentification")
    kind = identification.find("EventTypeCode")
    return identification.find("EventID").get("csd-code"), None if kind is None else kind.get("csd-code")


def objects(message: str) -> dict[str, str]:
    """Code of what the object is -> its identifier."""
    return {
        one.find("ParticipantObjectIDTypeCode").get("csd-code"): one.get("ParticipantObjectID")
        for one in valid(message).findall("ParticipantObjectIdentification")
    }
