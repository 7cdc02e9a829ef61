"""Decides whether two names can be one person's; accents, letter case, order and punctuation do not matter. Pure."""

from __future__ import annotations

import operator
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

_TITLES = frozenset({"mr", "mrs", "ms", "miss", "dr", "prof", "herr", "frau", "mme", "mlle", "sr", "jr"})
_COMMON_WORDS = frozenset({
    "van", "von", "vom", "der", "den", "de", "del", "della", "di", "du", "dos", "das", "des", "la", "el", "al", "ter",
    "ten", "te", "zu", "zum", "zur", "bin", "bint", "ibn", "abu", "baby", "boy", "girl", "newborn", "infant", "unknown",
})  # fmt: skip
"""Words that stand in many people's names."""
_PLAIN = {"ø": "o", "æ": "ae", "œ": "oe", "ł": "l", "đ": "d"}
_GERMAN = {**_PLAIN, "ä": "ae", "ö": "oe", "ü": "ue", "ø": "oe", "å": "aa"}
_SPELLINGS = (str.maketrans(_PLAIN), str.maketrans(_GERMAN))
_NO_SEPARATOR = re.compile("['\N{RIGHT SINGLE QUOTATION MARK}`.]")
_WORD = re.compile(r"[^\W\d_]+|\d+")
_NUMBER = "a number"
_NUMERALS = frozenset({"ii", "iii", "iv", "vi", "vii", "viii", "ix"})

Part = frozenset[str]
"""A part of a name, in each of its possible spellings (`mueller` and `muller`)."""


def is_name(name: str | None, patient_id: str) -> bool:
    """Whether a text is a person's name: it has letters and does not just repeat the patient ID."""
    if not name or not name_parts(name):
        return False
    said, number = (re.sub(r"[\W_]+", "", text).casefold() for text in (name, patient_id))
    return said != number


def names_exclude_each_other(first: str, second: str) -> bool:
    """Whether two names have no part in common; names in different scripts cannot be compared.

    "van" or "de la" is a part only where one of the names has no other one.
    """
    ours, theirs = name_parts(first), name_parts(second)
    shared = ours.keys() & theirs.keys()
    return bool(shared) and not any(_in_common(ours[script], theirs[script]) for script in shared)


def names_are_compatible(first: str, second: str) -> bool:
    """Whether the parts that both names give are the same; one name may give more parts than the other.

    This is stricter than `names_exclude_each_other`: brothers share their family name but are two people. An initial is
    the same as a part that begins with it, and numbers count, each as often as it is there: newborn twins are often
    called "Baby A" and "Baby B", or "1 of 2" and "2 of 2".
    """
    if first == second:
        return True
    ours, theirs = _all_parts(first), _all_parts(second)
    return not any(_both_give_more(ours[script], theirs[script]) for script in ours.keys() & theirs.keys())


@lru_cache(maxsize=4096)
def name_parts(name: str) -> Mapping[str, frozenset[Part]]:
    """Split a name into its parts: script -> parts.

    Titles and numbers are left out, and so are initials if there is a longer part.
    """
    return {script: _without_initials(parts) for script, parts in _all_parts(name).items() if script != _NUMBER}


@lru_cache(maxsize=4096)
def _all_parts(name: str) -> Mapping[str, Sequence[Part]]:
    """Return every part as often as a single component group has it: script -> parts."""
    found: dict[str, Counter[Part]] = {}
    for group in unicodedata.normalize("NFC", _NO_SEPARATOR.sub("", name)).casefold().split("="):
        for script, parts in _parts_of_group(group).items():
            found[script] = found.get(script, Counter()) | Counter(parts)
    return {script: [*parts.elements()] for script, parts in found.items()}


def _parts_of_group(group: str) -> dict[str, list[Part]]:
    found: dict[str, list[Part]] = {}
    for word in _WORD.findall(group):
        if word.isdecimal():
            found.setdefault(_NUMBER, []).append(frozenset({word.lstrip("0")}))
        elif word not in _TITLES:
            script = unicodedata.name(word[0], "?").partition(" ")[0]
            found.setdefault(script, []).append(frozenset(_fold(word.translate(letters)) for letters in _SPELLINGS))
    return found


def _fold(word: str) -> str:
    decomposed = unicodedata.normalize("NFKD", word)
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter))


def _without_initials(parts: Sequence[Part]) -> frozenset[Part]:
    return frozenset(part for part in parts if not _is_initial(part)) or frozenset(parts)


def _is_initial(part: Part) -> bool:
    return max(map(len, part)) == 1


def _in_common(ours: frozenset[Part], theirs: frozenset[Part]) -> bool:
    mine, its = (frozenset(part for part in parts if part.isdisjoint(_COMMON_WORDS)) for parts in (ours, theirs))
    if mine and its:
        ours, theirs = mine, its
    return any(a & b for a in ours for b in theirs)


def _both_give_more(ours: Sequence[Part], theirs: Sequence[Part]) -> bool:
    """Whether each of two names has a part that the other lacks."""
    mine, its = list(ours), list(theirs)
    _take_pairs(mine, its, operator.eq)
    _take_pairs(mine, its, lambda a, b: not a.isdisjoint(b))
    _take_pairs(mine, its, _abbreviates)
    _take_pairs(its, mine, _abbreviates)
    return bool(mine and its)


def _take_pairs(ours: list[Part], theirs: list[Part], agree: Callable[[Part, Part], bool]) -> None:
    """Take out of two lists what agrees, one part for one."""
    for part in [*ours]:
        other = next((one for one in theirs if agree(part, one)), None)
        if other is not None:
            ours.remove(part)
            theirs.remove(other)


def _abbreviates(initial: Part, part: Part) -> bool:
    return _is_initial(initial) and part.isdisjoint(_NUMERALS) and not initial.isdisjoint(word[:1] for word in part)
