"""Reading one element of a worklist query: a stranger's bytes to text, whatever they are.

Lives in the server process. A data set and a tag come in; what the element says goes out, or `InvalidQuery`. What the
text means as a key, `matching` decides.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag

from pylantir.dicom.text.declared import UNDECLARED, declared_encodings
from pylantir.errors import InvalidQuery

MAX_VALUES = 1000
MAX_VALUE_LENGTH = 1024
MAX_ESCAPES = 1000
"""How many escape sequences are decoded in one element: each may cost the library twenty microseconds."""
SPECIFIC_CHARACTER_SET = 0x00080005


def read_element(level: Dataset, tag: BaseTag) -> DataElement:
    """Decode one element.

    Raises:
        InvalidQuery: It is cut short, or cannot be decoded.
    """
    _check_whole(level, tag)
    try:
        return level[tag]
    except Exception as error:  # noqa: BLE001 - pydicom decodes here, and a stranger's bytes raise anything
        raise InvalidQuery(int(tag), f"the element cannot be decoded ({type(error).__name__})") from None


def settle_character_set(level: Dataset, around: Sequence[str] | None) -> Sequence[str] | None:
    """Let a level's texts be decoded in the character sets that it declares, else in those declared around it.

    Args:
        level: A data set or an item of which no text has been read yet.
        around: The codecs of the level around it; None: none are declared.

    Returns:
        The codecs of this level; None: none are declared.
    """
    raw = level.get_item(SPECIFIC_CHARACTER_SET) if SPECIFIC_CHARACTER_SET in level else None
    value = getattr(raw, "value", None) or ""
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    terms = text.split("\\") if isinstance(text, str) else list(map(str, text))
    declared = declared_encodings(terms) or around
    is_implicit, is_little = level.original_encoding
    level.set_original_encoding(is_implicit, is_little, list(declared or UNDECLARED))
    return declared


def vr_of_unknown(level: Dataset, tag: BaseTag) -> str:
    """Return the value representation to answer in for an attribute that is not known; its value is not looked at."""
    _check_whole(level, tag)
    given = getattr(level.get_item(tag), "VR", None)
    try:
        known = dictionary_VR(tag)
    except KeyError:
        known = "UN"
    # "US or SS" and the like: what an attribute without a value is written as does not matter.
    return str(given if given not in (None, "UN") else known)[:2]


def is_universal(level: Dataset, tag: BaseTag) -> bool:
    """Whether an element has no value, or `*` alone; a value of binary numbers need not be readable."""
    _check_whole(level, tag)
    value = getattr(level.get_item(tag), "value", None)
    return not (value.strip(b" *\0") if isinstance(value, bytes) else value)


def texts_of(element: DataElement, *, is_declared: bool) -> list[str]:
    """Return the values of a key as text, without padding; none for a universal key (no value, or `*` alone).

    Text beyond ASCII whose character set nobody declared is read as UTF-8 where it is valid, else as Latin-1.

    Raises:
        InvalidQuery: A value is no text, far too long, or holds control characters.
    """
    tag = int(element.tag)
    several = element.value if isinstance(element.value, MultiValue | list) else [element.value]
    if len(several) > MAX_VALUES:
        raise InvalidQuery(tag, f"more than {MAX_VALUES} values")
    values = []
    for one in several:
        if isinstance(one, bytes):
            raise InvalidQuery(tag, "the value is no text")
        try:
            text = "" if one is None else str(one)
            text = as_meant(text, is_declared=is_declared)
            text.encode()
        except (UnicodeError, LookupError):
            raise InvalidQuery(tag, "the value does not fit its character set") from None
        text = text.strip(" \0")
        if element.VR == "PN":
            text = _tidy_name(text)
        if len(text) > MAX_VALUE_LENGTH or any(character < " " or character == "\x7f" for character in text):
            raise InvalidQuery(tag, "the value is too long, or holds control characters")
        if text.strip("*") or not text:
            values.append(text)
        else:
            return []
    return [text for text in values if text]


def as_meant(text: str, *, is_declared: bool) -> str:
    """Read a text whose character set nobody declares as UTF-8 where it is valid; the library reads it as Latin-1."""
    if is_declared or text.isascii():
        return text
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text


def _check_whole(level: Dataset, tag: BaseTag) -> None:
    try:
        raw = level.get_item(tag)
    except Exception as error:  # noqa: BLE001 - pydicom decodes what it cannot place, and a stranger's bytes raise anything
        raise InvalidQuery(int(tag), f"the element cannot be decoded ({type(error).__name__})") from None
    if isinstance(raw, RawDataElement) and raw.value is not None and len(raw.value) != raw.length:
        # pydicom accepts a value that is cut short, but half a patient ID may be another patient's.
        raise InvalidQuery(int(tag), "the element is cut short")
    if isinstance(raw, RawDataElement) and raw.value is not None and raw.value.count(b"\x1b") > MAX_ESCAPES:
        raise InvalidQuery(int(tag), "too many escape sequences")


def _tidy_name(text: str) -> str:
    """Drop insignificant spaces from each component, and empty components and groups from the end."""
    groups = ("^".join(part.strip() for part in group.split("^")).rstrip("^") for group in text.split("="))
    return "=".join(groups).rstrip("=")
