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
_WORD = re.compile(r"[^\W\d_]+|\d+")
_NUMBER = "a number"
_NUMERALS = frozenset({"ii", "iii", "iv", "vi", "vii", "viii", "ix"})


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

    This is stricter than `names_exclude_each_other`: brothers share their family name but are two people. An initial is
    the same as a part that begins with it, and numbers count: newborn twins are often called "Baby A" and "Baby B".
    """
    if first == second:
        return True
    ours, theirs = _all_parts(first), _all_parts(second)
    return not any(_both_give_more(ours[script], theirs[script]) for script in ours.keys() & theirs.keys())


@lru_cache(maxsize=4096)
def name_parts(name: str) -> Mapping[str, frozenset[frozenset[str]]]:
    """Split a name into its parts: script -> parts, each with its possible spellings (`mueller` and `muller`).

    Titles and numbers are left out, and so are initials if there is a longer part.
    """
    return {script: _without_initials(parts) for script, parts in _all_parts(name).items() if script != _NUMBER}


@lru_cache(maxsize=4096)
def _all_parts(name: str) -> Mapping[str, frozenset[frozenset[str]]]:
    found: dict[str, set[frozenset[str]]] = {}
    for word in _WORD.findall(unicodedata.normalize("NFC", _NO_SEPARATOR.sub("", name)).casefold()):
        if word.isdecimal():
            found.setdefault(_NUMBER, set()).add(frozenset({word.lstrip("0")}))
        elif word not in _TITLES:
            script = unicodedata.name(word[0], "?").partition(" ")[0]
            found.setdefault(script, set()).add(frozenset(_fold(word.translate(letters)) for letters in _SPELLINGS))
    return {script: frozenset(parts) for script, parts in found.items()}


def _fold(word: str) -> str:
    decomposed = unicodedata.normalize("NFKD", word)
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter))


def _without_initials(parts: frozenset[frozenset[str]]) -> frozenset[frozenset[str]]:
    return frozenset(part for part in parts if not _is_initial(part)) or parts


def _is_initial(part: frozenset[str]) -> bool:
    return max(map(len, part)) == 1


def _in_common(ours: frozenset[frozenset[str]], theirs: frozenset[frozenset[str]]) -> bool:
    return any(a & b for a in ours for b in theirs)


def _both_give_more(ours: frozenset[frozenset[str]], theirs: frozenset[frozenset[str]]) -> bool:
    """Whether each of two names has a part that the other lacks."""
    mine = [part for part in ours if not any(part & other for other in theirs)]
    its = [part for part in theirs if not any(part & other for other in ours)]
    for one, other in ((mine, its), (its, mine)):
        for initial in [part for part in one if _is_initial(part)]:
            meant = next((part for part in other if _abbreviates(initial, part)), None)
            if meant is not None:
                one.remove(initial)
                other.remove(meant)
    return bool(mine and its)


def _abbreviates(initial: frozenset[str], part: frozenset[str]) -> bool:
    return part.isdisjoint(_NUMERALS) and not initial.isdisjoint(word[:1] for word in part)
