"""Do two attributes say the same? Compared by what they mean, not by how they are written. Pure.

Attributes in the DICOM JSON model come in. `1015` is `101500`, `2026.12.05` is `20261205`, `A^B^` is `A^B`, a
decomposed accent is a composed one, and an attribute without a value more or less makes no difference.

Source: DICOM PS3.5 6.2 (value representations), 6.2.1 (person names).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Hashable, Mapping
from typing import Any

Attribute = Mapping[str, Any]


def same_meaning(one: Attribute, other: Attribute) -> bool:
    """Whether two attributes of one tag mean the same."""
    return one == other or meaning_of(one) == meaning_of(other)


def meaning_of(attribute: Attribute) -> Hashable:
    """Bring an attribute's values into a form in which they can be compared; an empty tuple for none."""
    if "InlineBinary" in attribute:
        return ("binary", attribute["InlineBinary"])
    vr = str(attribute.get("vr", ""))
    values = [_value(vr, value) for value in attribute.get("Value") or ()]
    return tuple(value for value in values if value not in ("", ()))


def has_value(attribute: Attribute) -> bool:
    """Return whether an attribute has any value."""
    return meaning_of(attribute) != ()


def _value(vr: str, value: object) -> Hashable:
    if vr == "PN":
        groups = value.values() if isinstance(value, Mapping) else str(value or "").split("=")
        return "=".join(_name_group(str(group)) for group in groups).rstrip("=")
    if isinstance(value, Mapping):
        said = ((tag, meaning_of(attribute)) for tag, attribute in value.items())
        return tuple(sorted(((tag, one) for tag, one in said if one != ()), key=lambda pair: pair[0]))
    text = unicodedata.normalize("NFC", "" if value is None else str(value)).strip(" \0")
    if vr == "DA":
        return text.replace(".", "")
    if vr == "TM":
        return _time(text)
    if vr in {"DS", "IS"}:
        return _number(text)
    return text


def _name_group(group: str) -> str:
    parts = unicodedata.normalize("NFC", group).split("^")
    return "^".join(part.strip() for part in parts).rstrip("^")


def _time(text: str) -> str:
    whole, _, fraction = text.replace(":", "").partition(".")
    fraction = fraction.rstrip("0")
    return (whole.ljust(6, "0") if whole else "") + ("." + fraction if fraction else "")


def _number(text: str) -> Hashable:
    try:
        return float(text)
    except ValueError:
        return text
