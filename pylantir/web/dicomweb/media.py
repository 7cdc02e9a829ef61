"""Which form an answer has, and how a body is read: DICOM JSON, native XML, and multipart/related of either.

Pure: headers and bytes in, bytes out.

Source: DICOM PS3.18 8.7 (media types), RFC 9110 12.5.1 (Accept), RFC 2387 (multipart/related).
"""

from __future__ import annotations

import json
import math
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any, Literal

from pylantir.errors import BadRequest
from pylantir.mpps.model import Attributes
from pylantir.web.dicomweb.native_xml import read_xml, write_xml

JSON, XML, MULTIPART = "application/dicom+json", "application/dicom+xml", "multipart/related"
MAX_ACCEPT_LENGTH = 4096
_TAG = re.compile(r"[0-9A-Fa-f]{8}")


@dataclass(frozen=True, slots=True)
class Form:
    """The form of an answer: `json` or `xml`, in parts or not."""

    kind: Literal["json", "xml"]
    in_parts: bool = False


def choose_form(accept: str) -> Form | None:
    """The form that a client likes best of those that there are; None: it takes none of them."""
    if len(accept) > MAX_ACCEPT_LENGTH:
        return None
    wanted = []
    for position, part in enumerate(accept.split(",") if accept.strip() else ("*/*",)):
        message = Message()
        message["content-type"] = part.strip()
        quality, form = _quality(message), _form_of(message)
        if form and quality > 0:
            wanted.append((-quality, position, form))
    return min(wanted, key=lambda one: one[:2])[2] if wanted else None


def write_results(form: Form, results: Sequence[Attributes]) -> tuple[str, bytes]:
    """Write several data sets: media type and body."""
    if form.kind == "json" and not form.in_parts:
        return JSON, _json(list(results))
    parts = [_json([one]) if form.kind == "json" else write_xml(one) for one in results]
    kind = JSON if form.kind == "json" else XML
    boundary = secrets.token_hex(16)
    head = f"--{boundary}\r\nContent-Type: {kind}\r\n\r\n".encode()
    body = b"".join(head + part + b"\r\n" for part in parts) + f"--{boundary}--\r\n".encode()
    return f'{MULTIPART}; type="{kind}"; boundary={boundary}', body


def write_result(form: Form, result: Attributes) -> tuple[str, bytes]:
    """Write one data set: media type and body."""
    if form.in_parts:
        return write_results(form, [result])
    return (JSON, _json([result])) if form.kind == "json" else (XML, write_xml(result))


def read_body(content_type: str, body: bytes) -> dict[str, dict[str, Any]]:
    """Read the one data set of a request.

    Raises:
        BadRequest: It is none, or in a form that is not understood.
    """
    message = Message()
    message["content-type"] = content_type
    kind = message.get_content_type() if content_type else ""
    if kind == MULTIPART:
        return read_body(*_only_part(content_type, body))
    if kind == XML:
        return read_xml(body)
    if kind in {JSON, "application/json"}:
        return _read_json(body)
    raise BadRequest(f"content type: expected {JSON} or {XML}")


def _read_json(body: bytes) -> dict[str, dict[str, Any]]:
    try:
        value = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant, object_pairs_hook=_unrepeated)
    except (ValueError, RecursionError):
        raise BadRequest("the body is no JSON in UTF-8") from None
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not _is_data_set(value):
        raise BadRequest("the body is no object of the DICOM JSON model: tag -> {vr, Value}")
    checked: dict[str, dict[str, Any]] = value
    return checked


def _is_data_set(value: object) -> bool:
    """Whether a value has the form of a data set: pydicom would make something of nearly anything."""
    return isinstance(value, dict) and all(
        _TAG.fullmatch(tag) and isinstance(element, dict) and _is_element(element) for tag, element in value.items()
    )


def _is_element(element: Mapping[str, object]) -> bool:
    vr, values = element.get("vr", ""), element.get("Value", [])
    # What would have to be fetched from elsewhere is not here.
    if not isinstance(vr, str) or not isinstance(values, list) or "BulkDataURI" in element:
        return False
    if vr == "SQ":
        return all(_is_data_set(item) for item in values)
    if vr == "PN":
        return all(one is None or isinstance(one, str) or _is_person_name(one) for one in values)
    # Without a VR, which the model asks for, the dictionary knows whether it is a sequence.
    return all(one is None or _is_plain(one) or (not vr and _is_data_set(one)) for one in values)


def _is_person_name(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(group, str) for group in value.values())


def _is_plain(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, str | int) and not isinstance(value, bool)


def _unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object whose names all differ: of two patient IDs, the last one would count silently."""
    made = dict(pairs)
    if len(made) < len(pairs):
        raise BadRequest("a name stands twice in one object of the body")
    return made


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def _only_part(content_type: str, body: bytes) -> tuple[str, bytes]:
    head = f"Content-Type: {content_type}\r\n\r\n".encode("latin-1", "replace")
    parsed = BytesParser(policy=HTTP).parsebytes(head + body)
    parts = list(parsed.iter_parts()) if parsed.is_multipart() else []
    if len(parts) != 1 or parts[0].is_multipart():
        raise BadRequest("expected a body with one part")
    content = parts[0].get_payload(decode=True)
    return str(parts[0].get("content-type", "")), content if isinstance(content, bytes) else b""


def _form_of(message: Message) -> Form | None:
    kind = message.get_content_type()
    if message["content-type"].partition(";")[0].strip().lower() in {"*/*", "application/*", "application/json"}:
        return Form("json")
    forms: dict[str, Literal["json", "xml"]] = {JSON: "json", XML: "xml"}
    if kind in forms:
        return Form(forms[kind])
    inner = str(message.get_param("type") or "").lower()
    if kind == MULTIPART and inner in {*forms, ""}:
        return Form(forms.get(inner, "xml"), in_parts=True)
    return None


def _quality(message: Message) -> float:
    try:
        return float(str(message.get_param("q") or 1))
    except ValueError:
        return 0.0


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
