"""Decides whether two names can be one person's; accents, letter case, order and punctuation do not matter. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from functools import lru_cache

_TITLES = frozenset({"mr", "mrs", "ms", "miss", "dr", "prof", "herr", "frau", "mme", "mlle", "sr", "jr"})
_PLAIN = {"ø": "o", "æ": "ae", "œ": "oe", "ł": "l", "đ": "d"}
_GERMAN = {**_PLAIN, "ä": "ae", "ö": "oe", "ü": "ue", "ø": "oe", "å": "aa"}
_SPELLINGS = (str.maketrans(_PLAIN), str.maketrans(_GERMAN))
_NO_SEPARATOR = re.compile("['\N{RIGHT SINGLE QUOTATION MARK}`.]")
_WORD = re.compile(r"[^\W\d_]+")


def is_name(name: str | None, patient_id: str) -> bool:
    """Whether a text is a person's name: it has letters and does not just repeat the patient ID."""
    if not name or not name_parts(name):
        return False
    said, number = (re.sub(r"[\W_]+", "", text).casefold() for text in (name, patient_id))
    return said != number


def names_exclude_each_other(first: str, second: str) -> bool:
    """Whether two names have no part in common; names in different scripts cannot be compared."""
    ours, theirs = name_parts(first), name_parts(second)
    shared = ours.keys() & theirs.keys()
    return bool(shared) and not any(_in_common(ours[script], theirs[script]) for script in shared)


def names_are_compatible(first: str, second: str) -> bool:
    """Whether the parts that both names give are the same; one name may give more parts than the other.

    This is stricter than `names_exclude_each_other`: brothers share their family name but are two people.
    """
    ours, theirs = name_parts(first), name_parts(second)
    return all(
        _is_contained(ours[script], theirs[script]) or _is_contained(theirs[script], ours[script])
        for script in ours.keys() & theirs.keys()
    )


@lru_cache(maxsize=4096)
def name_parts(name: str) -> Mapping[str, frozenset[frozenset[str]]]:
    """Split a name into its parts: script -> parts, each with its possible spellings (`mueller` and `muller`).

    Titles are left out, and so are initials if there is a longer part.
    """
    found: dict[str, set[frozenset[str]]] = {}
    for word in _WORD.findall(unicodedata.normalize("NFC", _NO_SEPARATOR.sub("", name)).casefold()):
        if word not in _TITLES:
            script = unicodedata.name(word[0], "?").partition(" ")[0]
            found.setdefault(script, set()).add(frozenset(_fold(word.translate(letters)) for letters in _SPELLINGS))
    return {script: _without_initials(parts) for script, parts in found.items()}


def _fold(word: str) -> str:
    decomposed = unicodedata.normalize("NFKD", word)
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter))


def _without_initials(parts: set[frozenset[str]]) -> frozenset[frozenset[str]]:
    longer = frozenset(part for part in parts if max(map(len, part)) > 1)
    return longer or frozenset(parts)


def _in_common(ours: frozenset[frozenset[str]], theirs: frozenset[frozenset[str]]) -> bool:
    return any(a & b for a in ours for b in theirs)


def _is_contained(ours: frozenset[frozenset[str]], theirs: frozenset[frozenset[str]]) -> bool:
    return all(any(a & b for b in theirs) for a in ours)
