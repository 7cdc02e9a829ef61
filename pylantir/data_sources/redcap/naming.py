"""Composes patient names as old installations do, from study, family, session and site.

Lives in the worker of a REDCap source. Pure: values of one scan in, worklist fields out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

ROLES: Mapping[str, str] = {
    "study_id": "study_id",
    "session_id": "mri_instance",
    "family_id": "family_id",
    "scheduled_start_date": "mri_date",
    "scheduled_start_time": "mri_time",
    "patient_birth_date": "youth_dob_y",
    "patient_sex": "demo_sex",
}
"""Mapping target -> the REDCap field that is used if the configuration names none."""

ROLES_OF_ID = ("study_id", "session_id", "family_id")
ROLES_OF_NAME = ("study_id", "family_id")
REQUIRED_ROLES = ("study_id", "session_id", "scheduled_start_date", "scheduled_start_time")
STUDY_DESCRIPTION = "CPIP"
DEFAULT_PROTOCOL = "DEFAULT_PROTOCOL"
DEFAULT_DESIGNATOR = "scannermapper"

_WHOLE_NUMBER = re.compile(r"([0-9]+)\.0+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocols:
    """The `protocol` of a source's `config`: one for all, or by site, with "mapping" for the coding designator."""

    site: str = ""
    protocol: str | Mapping[str, str] = ""

    @property
    def name(self) -> str:
        """The protocol of this site, or ""."""
        return self.protocol if isinstance(self.protocol, str) else self.protocol.get(self.site, "")

    @property
    def designator(self) -> str:
        """The coding designator, or ""."""
        return "" if isinstance(self.protocol, str) else self.protocol.get("mapping", "")


def composite_fields(*, study: str, session: str, family: str, protocols: Protocols) -> dict[str, str]:
    """Name patient and procedure as these installations do.

    Args:
        study: The study ID; of it and of the family ID only what follows the last `-` is used.
        session: The session, "1" or "1.0".
        family: The family ID; if it is "", its part of the name is left out, as is the part of an unknown site.
        protocols: Site and protocols of the source.
    """
    study, family = (part.rsplit("-", 1)[-1].strip() for part in (study, family))
    parts = (("sub", study), ("ses", whole_number(session)), ("fam", family), ("site", protocols.site))
    return {
        "patient_id": "_".join(f"{label}_{part}" for label, part in parts if part),
        "patient_name": f"cpip-id-{study}" + (f"^fa-{family}" if family else ""),
        "study_description": STUDY_DESCRIPTION,
        "protocol_name": protocols.name or DEFAULT_PROTOCOL,
        "hisris_coding_designator": protocols.designator or DEFAULT_DESIGNATOR,
    }


def whole_number(text: str) -> str:
    """Turn "1.0" into "1": a spreadsheet may have added the decimal."""
    match = _WHOLE_NUMBER.fullmatch(text)
    return match[1] if match else text
