"""Checks `field_mapping` and `defaults`: each named field has to exist, fit its value, and occur only once.

Lives in the configuration check. Works on the document, like `sources`: the models report values of a wrong form.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pylantir.columns import read_field_mapping, target_of
from pylantir.config.messages import Finding, Place, nearest
from pylantir.entry import MAPPING_TARGETS, RECORD_ID_FIELD, START_FIELD, WORKLIST_FIELDS
from pylantir.errors import RecordRejected
from pylantir.targets import PREFIX, find_target, target_names
from pylantir.values.attributes import check_attribute
from pylantir.values.formats import SPECIAL, compile_format
from pylantir.values.normalise import DEFAULT_RULES, normalise_value

_REFERENCE = "; the configuration reference lists them"
# A constant in one of these fields would merge all records, or all steps, into one.
_NO_CONSTANTS = (RECORD_ID_FIELD, "accession_number", "study_instance_uid")
_TYPES_WITHOUT_OWN_FIELDS = ("csv", "json", "sql")
_IDENTITY = frozenset({
    "patient_id", "patient_name", "patient_birth_date", "patient_sex", "issuer_of_patient_id", RECORD_ID_FIELD,
    "study_instance_uid", "accession_number", "study_id", "session_id", "family_id",
})  # fmt: skip
"""No similar name is suggested for these: it would be a guess, and nobody should guess who a patient is."""
_REPEATED_REPETITION = re.compile(r"\((?:[^()\\]|\\.)*[+*](?:[^()\\]|\\.)*\)(?:[+*]|\{[0-9]*,)")
_SAME_FIELD: Mapping[str, str] = {f"{PREFIX}Allergies": "allergies", f"{PREFIX}MedicalAlerts": "medical_alerts"}


def check_mapping(source: Mapping[str, object], place: Place, own: Sequence[str]) -> Iterator[Finding]:
    """Check `field_mapping` in all its forms; `own` are the targets that the source's type adds."""
    mapping = source.get("field_mapping")
    place = (*place, "field_mapping")
    made_of: dict[str, list[str]] = {}
    for name, said in mapping.items() if isinstance(mapping, dict) else ():
        if isinstance(said, dict):
            targets, here = [name], place
            yield from _check_object(name, said, (*place, name))
        else:
            targets = [one for one in (said if isinstance(said, list) else [said]) if isinstance(one, str) and one]
            here = (*place, name)
        for target in targets:
            made_of.setdefault(_same(target), []).append(name)
            if not _exists(target, own):
                turned = "" if isinstance(said, dict) or not _exists(name, own) else _turned_round(name, target)
                yield Finding(place=here, text=turned or _unknown_field(target, own))
    for target, names in made_of.items():
        if len(names) > 1:
            several = " and ".join(json.dumps(name, ensure_ascii=False) for name in names)
            yield Finding(place=place, text=f'{several} are mapped to the same field "{target}": keep one')


def check_defaults(source: Mapping[str, object], place: Place, own: Sequence[str]) -> Iterator[Finding]:
    """Check the constants."""
    defaults = source.get("defaults")
    for name, value in defaults.items() if isinstance(defaults, dict) else ():
        here, field = (*place, "defaults", name), target_of(name)
        if name in own:
            continue
        if not _exists(name, own):
            yield Finding(place=here[:-1], text=_unknown_field(name, own))
        elif field in _NO_CONSTANTS:
            yield Finding(place=here, text="identifies one record, so it cannot be the same for all")
        elif isinstance(value, str | int | float) and not isinstance(value, bool):
            try:
                if field in MAPPING_TARGETS:
                    normalise_value(field, value)
                else:
                    check_attribute(name, value, DEFAULT_RULES)
            except RecordRejected as error:
                yield Finding(place=here, text=error.reason)


def check_issuer(source: Mapping[str, object], place: Place) -> Iterator[Finding]:
    """Check `issuer_of_patient_id`."""
    issuer = source.get("issuer_of_patient_id")
    try:
        if isinstance(issuer, str):
            normalise_value("issuer_of_patient_id", issuer)
    except RecordRejected as error:
        yield Finding(place=(*place, "issuer_of_patient_id"), text=error.reason)


def slow_patterns(source: Mapping[str, object], place: Place) -> Iterator[Finding]:
    """Warn of expressions that repeat a repetition: on some texts they take practically for ever."""
    mapping = source.get("field_mapping")
    for name, said in mapping.items() if isinstance(mapping, dict) else ():
        for key in ("extract", "_extract") if isinstance(said, dict) else ():
            given = said.get(key)
            pattern = given.get("pattern") if isinstance(given, dict) else given
            if isinstance(pattern, str) and _REPEATED_REPETITION.search(pattern):
                text = "a repetition within a repetition may take very long on some texts; try it without one of them"
                yield Finding(place=(*place, "field_mapping", name, key), text=text)


def missing_fields(source: Mapping[str, object], place: Place) -> Iterator[Finding]:
    """Warn of needed fields without a mapping or default. With an empty mapping the plugin may supply them itself."""
    mapping, defaults, config = (source.get(key, {}) for key in ("field_mapping", "defaults", "config"))
    if not isinstance(mapping, dict) or not isinstance(defaults, dict) or not mapping:
        return
    given = {target_of(name) for name in (*_targets(mapping), *defaults)}
    if isinstance(config, dict) and config.get("legacy") is True:
        return
    if source.get("type") in _TYPES_WITHOUT_OWN_FIELDS:
        for field in ("patient_id", "scheduled_start_date"):
            if field not in given and not (field == "scheduled_start_date" and START_FIELD in given):
                text = f'nothing is mapped to "{field}", without which every record is refused'
                yield Finding(place=(*place, "field_mapping"), text=text)
    if "modality" not in given:
        text = 'no modality is mapped or given in "defaults": MR is assumed'
        yield Finding(place=place, text=text)


def _check_object(target: str, said: Mapping[str, Any], place: Place) -> Iterator[Finding]:
    """Check that the keys of one object do not contradict each other."""
    for one, other in (("from", "source_field"), ("extract", "_extract")):
        if one in said and other in said:
            yield Finding(place=place, text=f'"{one}" and "{other}" mean the same: keep one')
    if not (said.get("from") or said.get("source_field")):
        yield Finding(place=place, text='needs "from": the source field, or a list of them')
    old = said.get("_extract")
    if isinstance(old, dict) and isinstance(old.get("pattern"), str) and isinstance(old.get("group", 1), int):
        groups = _groups(old["pattern"])
        if groups is not None and old.get("group", 1) > groups:
            text = f"the expression has {groups} groups; 0 is the whole match"
            yield Finding(place=(*place, "_extract", "group"), text=text)
    formats = said.get("format") or ()
    for name in (formats,) if isinstance(formats, str) else formats if isinstance(formats, list) else ():
        if isinstance(name, str) and (text := _unfit_format(target, name)):
            yield Finding(place=(*place, "format"), text=text)


def _unfit_format(target: str, name: str) -> str:
    """Say why a format cannot be used for a field, or return ""."""
    vr = _value_representation(target)
    if vr not in {"DA", "TM", "DT"}:
        return f'"{target}" is neither a date nor a time, so it has no format'
    if name in SPECIAL:
        return ""
    try:
        form = compile_format(name)
    except ValueError:
        return ""  # the models report it
    if vr == "TM":
        return "" if form.has_time else f'"{name}" has no time of day'
    return "" if form.has_date else f'"{name}" has no year, month and day'


def _value_representation(target: str) -> str:
    field = target_of(target)
    if field == START_FIELD:
        return "DT"
    if field in WORKLIST_FIELDS:
        return WORKLIST_FIELDS[field].vr
    known = find_target(target) if target.startswith(PREFIX) else None
    return known[0].vr if known and known[1] is None else ""


def _groups(pattern: str) -> int | None:
    try:
        return re.compile(pattern).groups
    except re.error:
        return None


def _targets(mapping: Mapping[str, Any]) -> list[str]:
    well_formed = {
        name: said if not isinstance(said, dict) else {"from": "x"}
        for name, said in mapping.items()
        if isinstance(said, str | dict) or (isinstance(said, list) and all(isinstance(one, str) for one in said))
    }
    return [rule.target for rule in read_field_mapping(well_formed)]


def _same(target: str) -> str:
    """Return one name for all targets that set the same thing: a sequence is set as a whole or by its parts."""
    field = target_of(target)
    known = find_target(target) if target.startswith(PREFIX) else None
    if known is None or known[0].worklist_field is not None:
        return field
    whole = PREFIX + known[0].path
    return _SAME_FIELD.get(whole, whole) if known[1] is None else f"{whole}.{known[1]}"


def _exists(target: str, own: Sequence[str]) -> bool:
    return target in MAPPING_TARGETS or target in own or (target.startswith(PREFIX) and find_target(target) is not None)


def _turned_round(field: str, column: str) -> str:
    said = json.dumps({column: field}, ensure_ascii=False)[1:-1]
    return f'"{column}" is no worklist field; if it is the source\'s field, write {said}'


def _unknown_field(name: str, own: Sequence[str]) -> str:
    if name.startswith(PREFIX):
        short = [PREFIX + one.rpartition(".")[2] for one in target_names()]
        near, what = nearest(name, [*target_names(), *short]), "DICOM attribute"
        field = target_of(near) if near else ""
    else:
        near, what = nearest(name, sorted({*MAPPING_TARGETS, *own})), "worklist field"
        field = near or ""
    hint = f': did you mean "{near}"?' if near and field not in _IDENTITY else _REFERENCE
    return f'unknown {what} "{name}"' + hint
