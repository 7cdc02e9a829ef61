"""The slow and obvious way to make a worklist response, by pydicom: what the fast one is compared with."""

from __future__ import annotations

from collections.abc import Mapping

from pydicom.charset import convert_encodings
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.valuerep import PersonName

from pylantir.dicom.find.attributes import PROTOCOL_CODE, SPS, WIRE_STATUSES, WorklistAttribute
from pylantir.dicom.find.elements import SPECIFIC_CHARACTER_SET
from pylantir.dicom.find.matching import ParsedQuery, RequestedKey
from pylantir.dicom.text.charset import CharacterSet, Loss
from pylantir.errors import RecordRejected

KG_PER_LB = 0.45359237
UTF_8 = "ISO_IR 192"
Row = Mapping[str, object]


def encode_response(
    row: Row,
    parsed: ParsedQuery,
    *,
    station_aet: str,
    charset: CharacterSet | None = None,
    send_empty: bool = True,
) -> Dataset:
    """Build the identifier of one pending response; raises RecordRejected for an item that may not be sent."""
    response = _encode_level(row, parsed.requested, station_aet, charset, send_empty=send_empty)
    if not all(element.VR == "SQ" or str(element.value).isascii() for element in response.iterall()):
        response.SpecificCharacterSet = UTF_8
    return response


def transcode(response: Dataset, charset: CharacterSet) -> Loss:
    """Write the texts of a response in a scanner's character set; gives the worst that became of any of them."""
    worst, needs_charset = Loss.NONE, False
    encodings = convert_encodings(list(charset.terms))
    for element in response.iterall():
        if element.VR == "SQ" or element.tag == SPECIFIC_CHARACTER_SET or str(element.value).isascii():
            continue
        encoded = charset.encode(str(element.value), element.VR)
        worst = max(worst, encoded.loss)
        needs_charset |= not encoded.is_ascii
        # As bytes, so that pydicom has nothing to encode: it would put a "?" where something is lost.
        element.value = PersonName(encoded.data, encodings) if element.VR == "PN" else encoded.data
    if needs_charset:
        response.SpecificCharacterSet = list(charset.terms)
    elif "SpecificCharacterSet" in response:
        del response.SpecificCharacterSet
    return worst


def attribute_text(attribute: WorklistAttribute, row: Row) -> str:
    """The value of an attribute in DICOM form, empty where the item has none."""
    text = next((text for name in attribute.fields if (text := _stored(row, name))), "")
    if attribute.keyword == "PatientWeight":
        return _kilograms(text)
    if attribute.matching == "status":
        return WIRE_STATUSES.get(text, text)
    return text


def _encode_level(
    row: Row, keys: tuple[RequestedKey, ...], station_aet: str, charset: CharacterSet | None, *, send_empty: bool
) -> Dataset:
    level = Dataset()
    for key in keys:
        if key.attribute is not None and key.attribute.keyword in ("CodeValue", "LongCodeValue"):
            # A code stands in one of the two, by its length; the other is not there.
            if (len(_stored(row, "protocol_name")) > 16) != (key.attribute.keyword == "LongCodeValue"):
                continue
            level.add(DataElement(key.tag, key.vr, _stored(row, "protocol_name")))
            continue
        value: Sequence | str | int | None
        if key.vr == "SQ":
            present = key.attribute is not None and _has_item(key, row, charset)
            items = [_encode_level(row, key.children, station_aet, charset, send_empty=send_empty)] if present else []
            value = Sequence(items)
        else:
            value = _value(row, key, station_aet)
        # A pregnancy status of 0 is a value.
        if send_empty or value or value == 0:
            level.add(DataElement(key.tag, key.vr, value))
    return level


def _value(row: Row, key: RequestedKey, station_aet: str) -> str | int | None:
    if key.attribute is None:
        return None
    text = attribute_text(key.attribute, row)
    if not text and key.attribute.keyword == "ScheduledStationAETitle":
        text = station_aet
    if not text and key.attribute.return_type == "1":
        raise RecordRejected(key.attribute.fields[0], f"item {row.get('id')} has none, and may not be sent without")
    if key.vr == "US":
        return int(text) if text.isdecimal() and int(text) < 0x10000 else None
    return text or None


def _has_item(key: RequestedKey, row: Row, charset: CharacterSet | None) -> bool:
    assert key.attribute is not None
    if key.attribute.keyword != PROTOCOL_CODE:
        return key.attribute.keyword == SPS
    code, scheme = _stored(row, "protocol_name"), _stored(row, "hisris_coding_designator")
    asked = {child.attribute.keyword for child in key.children if child.attribute}
    needed = "LongCodeValue" if len(code) > 16 else "CodeValue"
    if not (code and scheme) or (asked & {"CodeValue", "LongCodeValue"} and needed not in asked):
        return False
    texts = [code if needed in asked else "", scheme if "CodingSchemeDesignator" in asked else ""]
    return all(charset is None or text.isascii() or charset.encode(text, "LO").loss is Loss.NONE for text in texts)


def _stored(row: Row, name: str) -> str:
    value = row.get(name)
    return "" if value is None else str(value)


def _kilograms(pounds: str) -> str:
    try:
        weight_kg = float(pounds) * KG_PER_LB
    except ValueError:
        return ""
    return f"{weight_kg:.2f}".rstrip("0").rstrip(".") if 0 < weight_kg < 1000 else ""
