"""Reading what a scanner's Specific Character Set declares.

Lives in the server process and in the commands that show a query. The terms of (0008,0005) come in; the names of the
codecs to decode with go out. Only codecs of DICOM's character sets are ever named: Python has others, which take hours
for a value of some megabytes or turn it into nothing.

Source: DICOM PS3.3 C.12.1.1.2 (Specific Character Set), PS3.5 6.1.2 (character repertoires).
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence

from pydicom.charset import convert_encodings, default_encoding, python_encoding

UNDECLARED = (default_encoding,)
"""What the library decodes with where nothing is declared: every byte is a character, and nothing is lost."""

_LONGEST_TERM = 32
_MISSPELT = re.compile(r"ISO[ _-]?(2022)?[ _-]?IR[ _-]?([0-9]{1,3})")


def declared_encodings(terms: Sequence[str]) -> tuple[str, ...] | None:
    """Return Python's names of the character sets that the terms declare; None: they declare none.

    ASCII alone, and terms that nobody knows, are as good as none: where a text goes beyond ASCII, they do not say how.

    Args:
        terms: The values of Specific Character Set. Another spelling of a known one is understood.
    """
    known = [_corrected(term) for term in terms]
    encodings = tuple(convert_encodings(known)) if any(known) else UNDECLARED
    return None if set(encodings) <= set(UNDECLARED) else encodings


def _corrected(term: str) -> str:
    """Return the standard's term for what was meant; empty for what nobody knows."""
    term = term.strip(" \0")[:_LONGEST_TERM].upper()
    if term in python_encoding:
        return term
    if match := _MISSPELT.fullmatch(term):
        extended, number = match.groups()
        meant = (f"ISO 2022 IR {number}" if extended else f"ISO_IR {number}", f"ISO_IR {number}")
        return next((one for one in meant if one in python_encoding), "")
    try:
        codec = codecs.lookup(term).name
    except (LookupError, ValueError):
        return ""
    return next((one for one, encoding in python_encoding.items() if codecs.lookup(encoding).name == codec), "")
