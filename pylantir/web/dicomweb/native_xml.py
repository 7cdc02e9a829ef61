"""The DICOM JSON model as XML and back: the Native DICOM Model.

Pure. What comes in is a stranger's: document types, and with them entities, are refused before anything is expanded.

Source: DICOM PS3.19 A.1 (Native DICOM Model), PS3.18 F.2 (JSON model).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from xml.etree import ElementTree as ET

from pylantir.errors import BadRequest
from pylantir.mpps.model import Attributes

NAMESPACE = "http://dicom.nema.org/PS3.19/models/NativeDICOM"
MAX_NESTING = 32
_PERSON_NAME_PARTS = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")
_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")
_NUMBERS = {"DS": float, "FL": float, "FD": float, "IS": int, "SL": int, "SS": int, "UL": int, "US": int, "SV": int,
            "UV": int}  # fmt: skip
# What XML 1.0 cannot hold.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_xml(attributes: Attributes) -> bytes:
    """Write one data set."""
    root = ET.Element("NativeDicomModel", {"xmlns": NAMESPACE, "xml:space": "preserve"})
    _write_level(root, attributes)
    written: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return written


def read_xml(data: bytes) -> dict[str, dict[str, Any]]:
    """Read one data set.

    Raises:
        BadRequest: It is no XML of this model.
    """
    if b"<!" in data.replace(b"<!--", b"").replace(b"<![CDATA[", b""):
        raise BadRequest("document types and entities are not accepted")
    try:
        data.decode("utf-8")
        root = ET.fromstring(data, ET.XMLParser(encoding="utf-8"))  # noqa: S314 - without a document type there is nothing to expand
    except (ET.ParseError, LookupError, ValueError):
        raise BadRequest("the body is no XML in UTF-8") from None
    if _local(root) != "NativeDicomModel":
        raise BadRequest("the body is no NativeDicomModel")
    return _read_level(root, 1)


def _write_level(parent: ET.Element, attributes: Attributes) -> None:
    from pydicom.datadict import keyword_for_tag

    for tag, element in sorted(attributes.items()):
        node = ET.SubElement(parent, "DicomAttribute", {"tag": tag, "vr": str(element.get("vr", "UN"))})
        keyword = keyword_for_tag(int(tag, 16))
        if keyword:
            node.set("keyword", keyword)
        if "InlineBinary" in element:
            ET.SubElement(node, "InlineBinary").text = str(element["InlineBinary"])
        for number, value in enumerate(element.get("Value", ()), start=1):
            _write_value(node, str(element["vr"]), number, value)


def _write_value(node: ET.Element, vr: str, number: int, value: object) -> None:
    if value is None:
        return
    attribute = {"number": str(number)}
    if vr == "SQ":
        _write_level(ET.SubElement(node, "Item", attribute), value if isinstance(value, Mapping) else {})
    elif vr == "PN" and isinstance(value, Mapping):
        name = ET.SubElement(node, "PersonName", attribute)
        for group in _GROUPS:
            if value.get(group):
                inside = ET.SubElement(name, group)
                for part, text in zip(_PERSON_NAME_PARTS, str(value[group]).split("^"), strict=False):
                    if text:
                        ET.SubElement(inside, part).text = _FORBIDDEN.sub("\ufffd", text)
    else:
        ET.SubElement(node, "Value", attribute).text = _FORBIDDEN.sub("\ufffd", str(value))


def _read_level(node: ET.Element, depth: int) -> dict[str, dict[str, Any]]:
    if depth > MAX_NESTING:
        raise BadRequest(f"nested deeper than {MAX_NESTING} levels")
    attributes: dict[str, dict[str, Any]] = {}
    for child in node:
        tag, vr = child.get("tag", "").upper(), child.get("vr", "")
        if (
            _local(child) != "DicomAttribute"
            or not re.fullmatch("[0-9A-F]{8}", tag)
            or not re.fullmatch("[A-Z]{2}", vr)
        ):
            raise BadRequest("expected DicomAttribute elements with tag and vr")
        if tag in attributes:
            raise BadRequest(f"({tag[:4]},{tag[4:]}) stands twice")
        values = list(_read_values(child, vr, depth))
        attributes[tag] = {"vr": vr, "Value": values} if values else {"vr": vr}
    return attributes


def _read_values(node: ET.Element, vr: str, depth: int) -> Iterator[Any]:
    for child in node:
        kind, text = _local(child), child.text or ""
        if kind == "Item" and vr == "SQ":
            yield _read_level(child, depth + 1)
        elif kind == "PersonName" and vr == "PN":
            groups = {_local(group): {_local(part): part.text or "" for part in group} for group in child}
            yield {
                name: "^".join(parts.get(part, "") for part in _PERSON_NAME_PARTS).rstrip("^")
                for name, parts in groups.items()
                if name in _GROUPS
            }
        elif kind == "Value":
            try:
                yield _NUMBERS[vr](text) if vr in _NUMBERS else text
            except ValueError:
                # What a number cannot be is judged by the rules of MPPS, as over an association.
                yield text
        else:
            raise BadRequest(f"{kind[:32]} is not understood in an attribute of VR {vr}")


def _local(node: ET.Element) -> str:
    return str(node.tag).rpartition("}")[2]
