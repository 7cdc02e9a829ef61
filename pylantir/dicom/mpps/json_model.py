"""DICOM data sets as JSON and back, as MPPS is stored. Text becomes Unicode; character sets are not kept.

Lives in the server process and in the commands. A data set comes from a stranger: each element is read on its own, so
that the one at fault can be named.

Source: DICOM PS3.18 Annex F.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

from pylantir.errors import MppsRefused
from pylantir.mpps.model import SPECIFIC_CHARACTER_SET, DimseStatus, ErrorId

MAX_NESTING = 16
UTF_8 = "ISO_IR 192"


def attributes_of(dataset: Dataset, *, depth: int = 1) -> dict[str, dict[str, Any]]:
    """Turn a data set into the JSON model.

    Raises:
        MppsRefused: An element cannot be decoded, or is nested too deeply; names it, not its value.
    """
    attributes = {}
    # keys() does not decode: an element that cannot be decoded is found out one by one.
    for tag in sorted(dataset.keys()):
        name = f"{tag:08X}"
        if tag.element == 0 or name == SPECIFIC_CHARACTER_SET:
            continue
        attributes[name] = _element(dataset, tag, depth)
    return attributes


def dataset_of(attributes: Mapping[str, Mapping[str, Any]]) -> Dataset:
    """Turn attributes in the JSON model into a data set, with its character set where it needs one."""
    dataset = Dataset.from_json({tag: dict(value) for tag, value in attributes.items()})
    if not all(element.VR == "SQ" or str(element.value).isascii() for element in dataset.iterall()):
        dataset.SpecificCharacterSet = UTF_8
    return dataset


def _element(dataset: Dataset, tag: BaseTag, depth: int) -> dict[str, Any]:
    name = f"{tag:08X}"
    raw = dataset.get_item(tag)
    if isinstance(raw, RawDataElement) and raw.value is not None and len(raw.value) != raw.length:
        # pydicom takes what there is: half a patient ID may be somebody else's.
        raise _unreadable(name, "cut short")
    try:
        element = dataset[tag]
        if element.VR != "SQ":
            return element.to_json_dict(None, 0)
        items = element.value or ()
    except Exception as error:  # noqa: BLE001 - pydicom decodes here, and a stranger's bytes raise anything
        raise _unreadable(name, type(error).__name__) from None
    if depth > MAX_NESTING:
        raise _unreadable(name, "nested too deeply")
    values = [attributes_of(item, depth=depth + 1) for item in items]
    return {"vr": "SQ", "Value": values} if values else {"vr": "SQ"}


def _unreadable(tag: str, reason: str) -> MppsRefused:
    comment = f"({tag[:4]},{tag[4:]}) cannot be read: {reason}"
    return MppsRefused(DimseStatus.INVALID_VALUE, ErrorId.UNREADABLE, comment, (tag,))
