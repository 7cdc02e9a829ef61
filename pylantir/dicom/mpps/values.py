"""Reading one value of a scanner's report: its bytes to a value of the DICOM JSON model. Pure.

Lives in the server process. `decoding` walks over the data set and calls it for each different value.

Source: DICOM PS3.5 6.2 (value representations); PS3.18 Annex F (the JSON model).
"""

from __future__ import annotations

import base64
import math
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from pydicom.charset import decode_bytes
from pydicom.valuerep import PN_DELIMS, TEXT_VR_DELIMS

MAX_NUMBERS = 1000
"""An element with more binary numbers stays binary: as text they would be many times as long."""
LONG_VRS = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"})
"""In explicit VR, the length of these has four bytes."""
SHORT_VRS = frozenset(
    {"AE", "AS", "AT", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO", "LT", "PN", "SH", "SL", "SS", "ST", "TM", "UI"}
    | {"UL", "US"}
)
_BINARY = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
_NUMBERS: Mapping[str, str] = MappingProxyType(
    {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d", "SV": "q", "UV": "Q"}
)
_LONG_TEXTS = frozenset({"LT", "ST", "UR", "UT"})
IN_CHARACTER_SET = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[Ee][+-]?[0-9]+)?")
_INTEGER = re.compile(r"[+-]?[0-9]+")
_ONE_UID = re.compile(rb"[0-9.]+[ \0]?")
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f\ud800-\udfff]")
_PN_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")


class OddValue(Exception):
    """A value breaks its value representation; says how."""


def convert_value(vr: str, raw: bytes, encodings: Sequence[str] | None) -> Mapping[str, Any]:
    """Turn a value's bytes into an attribute of the DICOM JSON model.

    Args:
        vr: Its value representation.
        raw: In little endian.
        encodings: Python's names of the declared character sets; None: none is declared.

    Raises:
        OddValue: The value breaks its value representation.
    """
    if vr == "UI" and _ONE_UID.fullmatch(raw):
        return {"vr": "UI", "Value": [raw.rstrip(b" \0").decode("ascii")]}
    if vr in _NUMBERS or vr == "AT":
        return _binary_numbers(vr, raw)
    if vr in _BINARY:
        return {"vr": vr, "InlineBinary": base64.b64encode(raw).decode()} if raw else {"vr": vr}
    if vr not in SHORT_VRS and vr not in LONG_VRS:
        raise OddValue("its value representation is unknown")
    text = _text(vr, raw, encodings)
    if vr in _LONG_TEXTS:
        text = text.rstrip(" \0")
        return {"vr": vr, "Value": [_CONTROLS.sub("", text)]} if text else {"vr": vr}
    make: Callable[[str], Any] = {"DS": _decimal, "IS": _decimal, "PN": _person_name}.get(vr, lambda one: one or None)
    values = [make(_CONTROLS.sub("", one.strip(" \0"))) for one in text.split("\\")]
    return {"vr": vr, "Value": values} if any(value not in (None, {}) for value in values) else {"vr": vr}


def _binary_numbers(vr: str, raw: bytes) -> Mapping[str, Any]:
    size = 4 if vr == "AT" else struct.calcsize(_NUMBERS[vr])
    if len(raw) % size:
        raise OddValue(f"{len(raw)} bytes long, which {vr} cannot be")
    if not raw:
        return {"vr": vr}
    if len(raw) > MAX_NUMBERS * size:
        return {"vr": vr, "InlineBinary": base64.b64encode(raw).decode()}
    if vr == "AT":
        words = struct.unpack(f"<{len(raw) // 2}H", raw)
        return {
            "vr": vr,
            "Value": [f"{group:04X}{one:04X}" for group, one in zip(words[::2], words[1::2], strict=True)],
        }
    values = list(struct.unpack(f"<{len(raw) // size}{_NUMBERS[vr]}", raw))
    if not all(map(math.isfinite, values)):
        raise OddValue("not a number")
    return {"vr": vr, "Value": values}


def _text(vr: str, raw: bytes, encodings: Sequence[str] | None) -> str:
    if raw.isascii() and b"\x1b" not in raw:
        return raw.decode("ascii")
    if encodings is None or vr not in IN_CHARACTER_SET:
        return _undeclared_text(raw)
    try:
        delimiters = PN_DELIMS if vr == "PN" else TEXT_VR_DELIMS
        return str(decode_bytes(raw, encodings, set(delimiters)))
    except Exception:  # noqa: BLE001 - the library decodes a stranger's bytes here
        return raw.decode("ascii", "replace")


def _undeclared_text(raw: bytes) -> str:
    """Read text beyond ASCII whose character set nobody has declared: as UTF-8 where it is that, else as Latin-1."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _decimal(text: str) -> int | float | str | None:
    """Read a DS or IS; what is no number stays text, and so does a number that a float cannot hold."""
    if _INTEGER.fullmatch(text):
        return int(text) if len(text) <= 16 else text
    if _NUMBER.fullmatch(text) and math.isfinite(float(text)):
        return float(text)
    return text or None


def _person_name(text: str) -> dict[str, str]:
    groups = (group.strip(" ") for group in text.split("="))
    return {name: group for name, group in zip(_PN_GROUPS, groups, strict=False) if group}
