"""Finds and removes invisible characters, which change a text or its reading direction unseen.

Imported by source workers and by the server process; standard library only. In: a text; out: the text without them.

Source: Unicode `Default_Ignorable_Code_Point` (DerivedCoreProperties.txt), with the C1 controls and the interlinear
annotation characters.
"""

from __future__ import annotations

import re

_INVISIBLE = re.compile(
    "[\x80-\x84\x86-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
"""Without U+0085, which ends a line."""


def has_invisible(text: str) -> bool:
    """Whether a text has such a character, so that a different text may look the same."""
    return not text.isascii() and _INVISIBLE.search(text) is not None


def without_invisible(text: str) -> str:
    """Remove such characters from a text that people read."""
    return text if text.isascii() else _INVISIBLE.sub("", text)
