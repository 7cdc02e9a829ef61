"""Writing a stored report for N-GET: attributes in the DICOM JSON model to an encoded data set.

Lives in the server process. What was stored as text that its value representation does not allow goes out as it came.

Source: DICOM PS3.5 6.2 and 7 (encoding); PS3.18 Annex F (the JSON model).
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from pylantir.mpps.model import Attributes

UTF_8 = b"ISO_IR 192"
_LONG = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"})
_NUMBERS: Mapping[str, str] = MappingProxyType(
    {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d", "SV": "q", "UV": "Q"}
)
_SHORT_MAX = 0xFFFF
_CHARACTER_SET = 0x00080005


def write_attributes(attributes: Attributes, *, explicit_vr: bool) -> bytes:
    """Encode attributes in little endian, with their character set where they need one."""
    body = _level(attributes, explicit_vr=explicit_vr)
    if _is_ascii(attributes):
        return body
    declared = {f"{_CHARACTER_SET:08X}": {"vr": "CS", "Value": [UTF_8.decode()]}}
    return _level({**attributes, **declared}, explicit_vr=explicit_vr)


def _level(attributes: Attributes, *, explicit_vr: bool) -> bytes:
    return b"".join(
        _element(int(tag, 16), attribute, explicit_vr=explicit_vr) for tag, attribute in sorted(attributes.items())
    )


def _element(tag: int, attribute: Mapping[str, Any], *, explicit_vr: bool) -> bytes:
    vr = str(attribute.get("vr", "UN"))
    value = _value(vr, attribute, explicit_vr=explicit_vr)
    value += (b"\0" if vr == "UI" or "InlineBinary" in attribute else b" ") * (len(value) % 2)
    start = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
    if not explicit_vr:
        return start + struct.pack("<I", len(value)) + value
    if vr not in _LONG and len(value) > _SHORT_MAX:
        vr = "UN"
    if vr in _LONG:
        return start + vr.encode() + struct.pack("<HI", 0, len(value)) + value
    return start + vr.encode() + struct.pack("<H", len(value)) + value


def _value(vr: str, attribute: Mapping[str, Any], *, explicit_vr: bool) -> bytes:
    if "InlineBinary" in attribute:
        return base64.b64decode(attribute["InlineBinary"])
    values = attribute.get("Value") or []
    if vr == "SQ":
        items = [_level(item, explicit_vr=explicit_vr) for item in values]
        return b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(item)) + item for item in items)
    if vr in _NUMBERS:
        return _packed(lambda: struct.pack(f"<{len(values)}{_NUMBERS[vr]}", *values))
    if vr == "AT":
        return _packed(lambda: b"".join(struct.pack("<HH", int(one[:4], 16), int(one[4:], 16)) for one in values))
    return "\\".join(map(_text, values)).encode("utf-8", "replace")


def _packed(pack: Callable[[], bytes]) -> bytes:
    """Pack numbers; a value that an older version stored and that is not a number becomes empty."""
    try:
        return pack()
    except (struct.error, ValueError, TypeError, OverflowError):
        return b""


def _text(value: object) -> str:
    if isinstance(value, Mapping):
        groups = [str(value.get(name) or "") for name in ("Alphabetic", "Ideographic", "Phonetic")]
        return "=".join(groups).rstrip("=")
    return "" if value is None else str(value)


def _is_ascii(attributes: Attributes) -> bool:
    for attribute in attributes.values():
        for value in attribute.get("Value") or ():
            if attribute.get("vr") == "SQ":
                if not _is_ascii(value):
                    return False
            elif not _text(value).isascii():
                return False
    return True
