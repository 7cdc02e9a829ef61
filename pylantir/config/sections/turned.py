"""Converts field mappings as the public versions 0.2 to 0.4 described them into the present form.

Pure; lives in the configuration check and in `init`. Those versions' README maps well-known REDCap fields the wrong way
round, or to themselves; its form for a booking system has worklist fields on the left throughout. Only unambiguous
mappings are converted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pylantir.config.messages import Finding
from pylantir.entry import MAPPING_TARGETS
from pylantir.targets import PREFIX

REDCAP_FIELDS: Mapping[str, str | None] = {
    "mri_instance": "session_id",
    "mri_date": "scheduled_start_date",
    "mri_time": "scheduled_start_time",
    "youth_dob_y": "patient_birth_date",
    "demo_sex": "patient_sex",
    "record_id": None,
    "t1_date": None,
    "redcap_repeat_instrument": None,
}
"""REDCap field of that project -> its worklist field; None for a field that is read without being mapped."""

_REDCAP_TARGETS = ("study_id", "session_id", "family_id")


def turn_mapping(mapping: Mapping[str, Any], source_type: str) -> tuple[dict[str, Any], list[str]]:
    """Convert a field mapping of the public versions.

    Args:
        mapping: As it stands in the file, not checked yet.
        source_type: The type of its source.

    Returns:
        The mapping in the present form, and a remark on each conversion; no remarks if it was in that form already.
    """
    turned: dict[str, Any] = {}
    told: list[str] = []
    has_worklist_left = any(isinstance(said, dict) and "source_field" in said for said in mapping.values())
    given = {said for said in mapping.values() if isinstance(said, str)}
    for name, said in mapping.items():
        pair = _pair(name, said)
        if not isinstance(said, str) or said in MAPPING_TARGETS or said.startswith(PREFIX):
            turned[name] = said
        elif source_type == "redcap" and said in REDCAP_FIELDS:
            target = REDCAP_FIELDS[said]
            if target is None:
                told.append(f"{pair} has no effect, as {said} is read anyway; leave it out")
            elif target in given or said in turned:
                told.append(f'{pair} has no effect, as "{target}" is mapped already; leave it out')
            else:
                turned[said] = target
                given.add(target)
                told.append(f"{pair} is understood as {_pair(said, target)}; write it so")
        elif (
            has_worklist_left and name in MAPPING_TARGETS and not (source_type == "redcap" and said in _REDCAP_TARGETS)
        ):
            turned[name] = {"from": said}
            told.append(f"{pair} is understood as {json.dumps({name: {'from': said}})[1:-1]}; write it so")
        else:
            turned[name] = said
    return turned, told


def turn_sources(document: dict[str, object]) -> list[Finding]:
    """Convert the mappings of a document's sources, and report each conversion."""
    findings: list[Finding] = []
    listed = document.get("data_sources")
    sources: list[object] = []
    for position, source in enumerate(listed if isinstance(listed, list) else []):
        mapping = source.get("field_mapping") if isinstance(source, dict) else None
        if isinstance(source, dict) and isinstance(mapping, dict):
            turned, told = turn_mapping(mapping, str(source.get("type")))
            place = ("data_sources", position, "field_mapping")
            findings += [Finding(place=place, text=text) for text in told]
            sources.append({**source, "field_mapping": turned} if told else source)
        else:
            sources.append(source)
    if findings:
        document["data_sources"] = sources
    return findings


def _pair(name: str, said: object) -> str:
    return json.dumps({name: said}, ensure_ascii=False)[1:-1]
