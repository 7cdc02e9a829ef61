"""Checks the form of a configuration: which keys there are, and whether each value has the kind that its key needs.

Lives in the configuration check. Pure: a document goes in, findings and the models of `config.models` come out.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ValidationError

from pylantir.config.messages import OBJECT, Finding, Place, explain, nearest, suggestion
from pylantir.config.models.configuration import Configuration
from pylantir.config.models.serving import Dicom
from pylantir.config.models.source import MappedField, NotListed, OldExtract, Source
from pylantir.config.sections import legacy


def check_form(document: Mapping[str, object]) -> tuple[Configuration | None, list[Finding]]:
    """Return the configuration, or None and a finding for each value of a wrong form."""
    checked = {key: value for key, value in document.items() if key not in legacy.OLD_KEYS}
    try:
        return Configuration.model_validate(checked), []
    except ValidationError as error:
        entries = error.errors(include_url=False)
        return None, [explain(entry, _keys_around(entry["loc"])) for entry in entries]


def _keys_around(place: Place) -> list[str]:
    """List the keys of the innermost section that a place is in."""
    section: type[BaseModel] = Configuration
    for part in place:
        field = section.model_fields.get(part) if isinstance(part, str) else None
        inner = () if field is None else (field.annotation, *getattr(field.annotation, "__args__", ()))
        for annotation in inner:
            if isinstance(annotation, type) and issubclass(annotation, BaseModel):
                section = annotation
    if OBJECT in place:
        section = NotListed if "where" in place else OldExtract if "_extract" in place else MappedField
    return [field.alias or name for name, field in section.model_fields.items()]


def top_level_warnings(document: Mapping[str, object], file: str, *, old: bool) -> list[Finding]:
    """Report the keys of the file that have no effect; `old`: it has the form for REDCap alone."""
    findings = []
    for key in _unknown_keys(document):
        advice = suggestion(key, Configuration.model_fields)
        if key in Dicom.model_fields:
            advice = ': it stands in "dicom"'
        elif key in Source.model_fields:
            advice = ': it stands in a source of "data_sources"'
        text = f'unknown key "{key}" is ignored{advice}'
        findings.append(Finding(place=(), text=text))
    used = [f'"{key}"' for key in legacy.OLD_KEYS if key in document]
    if old:
        text = f"{', '.join(used) or 'legacy_mode'}: this is the form for REDCap alone, which still works"
        if "data_sources" in document:
            text += '; "data_sources" is ignored' if document["data_sources"] else '; "data_sources" is empty'
        text += f"; `pylantir init --from {file}` writes the new form with data_sources"
        findings.append(Finding(place=(), text=text))
    elif used and document.get("data_sources"):
        text = f"{', '.join(used)}: ignored, as data_sources is given; set legacy_mode to use the old keys"
        findings.append(Finding(place=(), text=text))
    return findings


def no_source(document: Mapping[str, object]) -> Finding:
    """Report that the file names no source, and the key that was probably meant."""
    known_as = "is empty" if "data_sources" in document else "is missing"
    near = nearest("data_sources", _unknown_keys(document))
    example = '{"name": "bookings", "type": "csv", "config": {"file_path": …}}'
    advice = f'is "{near}" meant?' if near else f"add a source, such as {example}"
    return Finding(place=("data_sources",), text=f"{known_as}: {advice}")


def _unknown_keys(document: Mapping[str, object]) -> list[str]:
    known = {field.alias or name for name, field in Configuration.model_fields.items()}
    return [key for key in document if key not in known]
