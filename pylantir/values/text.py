"""Cleans a source's texts of what spreadsheets and screens add, and checks them by their value representation.

Pure. Source: DICOM PS3.5 6.2 (AE, CS, LO, PN, SH, UI).
"""

from __future__ import annotations

import operator
import re

from pylantir.errors import RecordRejected
from pylantir.invisible import has_invisible, without_invisible


class Note:
    """Collects remarks on the changes to one value that is kept; holds no part of the value.

    Attributes:
        remarks: The remarks, in words.
        lost: Whether a part of the value's information was lost.
    """

    __slots__ = ("lost", "remarks")

    def __init__(self) -> None:
        self.remarks: list[str] = []
        self.lost = False

    def __call__(self, remark: str, *, lost: bool = False) -> None:
        """Add a remark."""
        self.remarks.append(remark)
        self.lost |= lost


_WRAPPED = re.compile(r'="((?:[^"]|"")*)"')
_SPREADSHEET_ERROR = re.compile(
    r"#(?=.*[^\W\d_])[¡¿]?[^\W\d]{1,20}(?:/[^\W\d]|/0)?[!?]|#(?:[^\W\d_]/[^\W\d_]|NV|NA|GETTING_DATA|LEER|VIDE)!?"
    r"|#{2,}|Err:[0-9]{3}|Loading\.{3}|Wird geladen\.{3}"
    r"|=[-+]?(?:[0-9(].*|[\w.]+\(.*\)|(?:[^!]+!)?\$?[A-Z]{1,3}\$?[0-9]+(?:[-+*/&].*)?)",
    re.IGNORECASE,
)
"""A spreadsheet's error, or a formula that was exported in place of its value."""
_SHORTENED = re.compile(r"[0-9](?:[.,][0-9]+)?[Ee]\+[0-9]+")
_LINE_SPACE = re.compile(r"[ ]*[\t\n\v\f\r\x85\u2028\u2029]+[ ]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_UNDECODED = re.compile("[\ud800-\udfff]")
_LOST = "\ufffd"
_UID = re.compile(r"[0-2](?:\.[0-9]+)+")
_LEADING_ZERO = re.compile(r"(?:^|\.)0[0-9]")
_CODE = re.compile(r"[A-Z0-9_ ]+")
_EXACT_FLOATS = 2**53
_NOTHING = frozenset({"NAType", "NaTType"})
_INFINITIES = (float("inf"), float("-inf"))


def as_text(field: str, value: object) -> str:
    """Write text or a number as text, without blanks around it; "" for nothing.

    Raises:
        RecordRejected: The value is neither text nor a number, or a number that is not exact.
        Exception: What an object of a plugin raises; see `unreadable`.
    """
    if isinstance(value, str):
        return value.strip()
    if is_nothing(value):
        return ""
    if isinstance(value, bool) or not (hasattr(value, "as_integer_ratio") or hasattr(value, "__index__")):
        raise RecordRejected(field, f"expected text or a number, got a value of type {type(value).__name__}")
    if hasattr(value, "__index__"):
        return str(operator.index(value))
    if value != value:  # noqa: PLR0124 - only NaN differs from itself
        return ""
    if (isinstance(value, float) and abs(value) >= _EXACT_FLOATS) or value in _INFINITIES:
        raise RecordRejected(field, "a number too large to be exact; let the source give it as text")
    return str(int(value) if value == int(value) else value)  # type: ignore[call-overload]


def is_nothing(value: object) -> bool:
    """Tell whether a value stands for "no value": None, or what pandas has for it, which equals nothing."""
    return value is None or type(value).__name__ in _NOTHING


def unreadable(field: str, value: object, error: Exception) -> RecordRejected:
    """Make the exception that says that an object of a plugin cannot be read; it names only the types."""
    return RecordRejected(field, f"a value of type {type(value).__name__} cannot be read: {type(error).__name__}")


def unwrap(text: str) -> str:
    """Remove the wrapping that keeps a spreadsheet from reading a text as a number: `="0012"`."""
    wrapped = _WRAPPED.fullmatch(text)
    return wrapped[1].replace('""', '"').strip() if wrapped else text


def is_spreadsheet_error(text: str) -> bool:
    """Tell whether a text is a spreadsheet's error, filler or formula: `#REF!`, `########`, `=B2`."""
    return text[:1] in "#=EeLlWw" and _SPREADSHEET_ERROR.fullmatch(text) is not None


def checked_identifier(field: str, text: str) -> str:
    """Check an identifier, which is either accepted unchanged or refused.

    Raises:
        RecordRejected: It could be mistaken for another identifier, or a spreadsheet has damaged it.
    """
    text = text.removeprefix("'")
    if _CONTROL.search(text) or "\\" in text:
        raise RecordRejected(field, _unfit(text))
    if _LOST in text:
        raise RecordRejected(field, "contains the mark of a character that was lost before; two could look the same")
    if not text.isprintable() or has_invisible(text):
        raise RecordRejected(field, "contains an invisible character; two identifiers could look the same")
    if _SHORTENED.fullmatch(text):
        reason = "looks like a number that a spreadsheet shortened (1.2E+05); format the column as text"
        raise RecordRejected(field, reason)
    return text


def cleaned_line(field: str, text: str, note: Note, *, backslash: bool = False) -> str:
    """Reduce a text for people to one line of visible characters.

    Args:
        field: For messages.
        text: As the source gave it.
        note: Called if invisible characters were removed.
        backslash: The value representation allows one.

    Raises:
        RecordRejected: It has a control character, or a backslash that would separate two values.
    """
    if text.isascii() and text.isprintable() and "\\" not in text:
        return text
    text = _LINE_SPACE.sub(" ", text)
    visible = without_invisible(text)
    if _CONTROL.search(visible) or ("\\" in visible and not backslash):
        raise RecordRejected(field, _unfit(visible))
    if visible != text:
        note("an invisible character is left out of it")
    return visible.strip()


def _unfit(text: str) -> str:
    if _UNDECODED.search(text):
        return "contains a byte that is no text in the source's encoding, or half a character"
    return "contains a backslash or a control character"


def cut_to(length: int, text: str, note: Note) -> str:
    """Shorten a text for people."""
    if len(text) <= length:
        return text
    note(f"longer than {length} characters; it is cut there", lost=True)
    return text[:length].rstrip()


def person_name(field: str, text: str, note: Note, max_length: int) -> str:
    """Return a person's name with its components in DICOM's order, each group at most `max_length` long.

    Raises:
        RecordRejected: It has more groups or components than a name can have.
    """
    groups = ["^".join(part.strip() for part in group.split("^")).rstrip("^") for group in text.split("=")]
    if len(groups) > 3 or any(group.count("^") > 4 for group in groups):
        raise RecordRejected(field, "a person name has at most 3 groups (=) of 5 components (^)")
    groups = [cut_to(max_length, group, note).rstrip("^ ") for group in groups]
    name = "=".join(groups).rstrip("=")
    if name.count(",") == 1 and "^" not in name and "=" not in name:
        name = "^".join(part.strip() for part in name.split(",")).rstrip("^")
    return name


def checked_uid(field: str, text: str, note: Note) -> str:
    """Check a UID; a component that begins with zero is accepted: it breaks the standard, but does no harm.

    Raises:
        RecordRejected: The text is no UID.
    """
    if not _UID.fullmatch(text):
        raise RecordRejected(field, 'not a UID: expected numbers joined by dots, as "1.2.840.1"')
    if _LEADING_ZERO.search(text):
        note("a component of the UID begins with 0; it is used as it is")
    return text


def checked_ae_title(field: str, text: str) -> str:
    """Check an AE title.

    Raises:
        RecordRejected: It has a character that AE titles may not have.
    """
    if not (text.isascii() and text.isprintable()) or "\\" in text:
        raise RecordRejected(field, "an AE title has only ASCII letters, digits and punctuation")
    return text


def code_string(field: str, text: str) -> str:
    """Write a code in capitals.

    Raises:
        RecordRejected: It has a character that codes may not have.
    """
    code = text.upper()
    if not _CODE.fullmatch(code):
        raise RecordRejected(field, "expected letters, digits, blanks and _ only")
    return code
