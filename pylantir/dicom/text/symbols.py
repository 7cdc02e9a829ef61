"""How a symbol is written where a scanner's character set does not have it: never as another number or unit.

Lives in the server process. A run of characters and its neighbours come in; what stands for them in ASCII goes out, or
None where nothing says the same. Unicode's own compatibility forms make `50 mg` of `50 µg` and `102` of `10²`: they
say what a character looks like, not what it means.

Source: Unicode Standard Annex 15 (compatibility decompositions), The Unicode Standard 22.2 to 22.4 (symbols, numerals).
"""

# ruff: noqa: RUF001 - characters that look like others are the point
from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterator, Mapping
from types import MappingProxyType

_SYMBOLS: Mapping[str, str] = MappingProxyType(
    {
        "µ": "u", "ℓ": "L", "°": "deg", "℃": "degC", "℉": "degF", "±": "+/-", "∓": "-/+", "≤": "<=", "≥": ">=",
        "≦": "<=", "≧": ">=", "≈": "~", "×": "x", "÷": "/", "∕": "/", "⁄": "/", "−": "-", "→": "->", "←": "<-",
        "′": "'", "″": '"', "∞": "infinite", "€": "EUR", "№": "No.", "™": "(TM)", "®": "(R)", "©": "(C)", "…": "...",
        "٪": "%", "٫": ".", "‘": "'", "’": "'", "‚": "'", "“": '"', "”": '"', "„": '"', "–": "-", "—": "-", "‐": "-",
        "‑": "-", "・": "", "、": ",", "。": ".", "「": "'", "」": "'",
    }
)  # fmt: skip
_GREEK_SYMBOLS: Mapping[str, str] = MappingProxyType(
    {"Ω": "Ohm", "μ": "u", "μΩ": "uOhm", "Α": "Alpha", "α": "alpha", "Β": "Beta", "β": "beta", "Γ": "Gamma"}
    | {"γ": "gamma", "Δ": "Delta", "δ": "delta", "Ε": "Epsilon", "ε": "epsilon", "Ζ": "Zeta", "ζ": "zeta", "Η": "Eta"}
    | {"η": "eta", "Θ": "Theta", "θ": "theta", "Ι": "Iota", "ι": "iota", "Κ": "Kappa", "κ": "kappa", "Λ": "Lambda"}
    | {"λ": "lambda", "Ν": "Nu", "ν": "nu", "Ξ": "Xi", "ξ": "xi", "Ο": "Omicron", "ο": "omicron", "Π": "Pi", "π": "pi"}
    | {"Ρ": "Rho", "ρ": "rho", "Σ": "Sigma", "σ": "sigma", "Τ": "Tau", "τ": "tau", "Υ": "Upsilon", "υ": "upsilon"}
    | {"Φ": "Phi", "φ": "phi", "Χ": "Chi", "χ": "chi", "Ψ": "Psi", "ψ": "psi", "ω": "omega"}
)
"""Greek letters that stand alone are symbols: β is not the v that it is in a Greek name."""
_SAME_IN_ANOTHER_SHAPE = frozenset({"wide", "narrow", "font", "noBreak", "small", "vertical"})
_EXPONENT = re.compile(r"(?<=[A-Za-z])(?=[0-9])")
_NAME_DELIMITERS = re.compile(r"[\^=]")


def runs(text: str) -> Iterator[tuple[str, str, str]]:
    """Cut a text into what has to be read together: superscripts, subscripts, Greek words, else single characters.

    Yields:
        The run, the character before it, and the one after it; empty at the ends.
    """
    place = 0
    for kind, group in itertools.groupby(text, _kind):
        characters = "".join(group)
        for run in (characters,) if kind else characters:
            end = place + len(run)
            yield run, text[place - 1 : place] if place else "", text[end : end + 1]
            place = end


def is_symbol(run: str, *, in_name: bool) -> bool:
    """Whether a run means something by itself, rather than being read as letters."""
    if _kind(run[0]) == "greek":
        # In a person name even a single letter may be an initial.
        return run == "μ" or (run in _GREEK_SYMBOLS and not in_name)
    return bool(_kind(run[0])) or run in _SYMBOLS or not run.isalpha()


def spelled_out(run: str, before: str, after: str, *, in_name: bool) -> str | None:
    """Write a symbol in ASCII.

    Args:
        run: Of `runs`; it is a symbol.
        before: The character before it.
        after: The character after it.
        in_name: The text is a person name, in which no delimiter of its parts may arise.

    Returns:
        None where nothing in ASCII means the same.
    """
    written = _written(run, before, in_name=in_name)
    if written and not run.isdecimal():
        # Two numbers side by side would read as another number.
        written = " " * (before.isnumeric() and written[0].isdigit()) + written
        written += " " * (after.isnumeric() and written[-1].isdigit())
    if written is None or not written.isascii() or "\\" in written:
        return None
    return None if in_name and _NAME_DELIMITERS.search(written) else written


def _kind(character: str) -> str:
    if "\u0370" <= character <= "\u03ff" or "\u1f00" <= character <= "\u1fff":
        return "greek"
    form = _form(character)
    return form if form in {"super", "sub"} else ""


def _form(character: str) -> str:
    """The tag of a compatibility decomposition, as `super` or `wide`; empty where there is none."""
    tag, closes, _ = unicodedata.decomposition(character).partition(">")
    return tag[1:] if closes else ""


def _written(run: str, before: str, *, in_name: bool) -> str | None:
    character = run[0]
    if run in _GREEK_SYMBOLS:
        return _GREEK_SYMBOLS[run]
    if run in _SYMBOLS:
        return _SYMBOLS[run]
    if character.isdecimal():
        return str(unicodedata.decimal(character))
    if unicodedata.combining(character):
        # On a letter it is an accent; a number or a sign may be struck out by it.
        return "" if before.isalpha() or unicodedata.combining(before or " ") else None
    form = _form(character)
    plain = unicodedata.normalize("NFKD", run).replace("−", "-")
    if form in {"super", "sub"}:
        # In a name, `^` divides it.
        return ("^" if form == "super" else "_") + plain if not in_name else plain if plain.isalpha() else None
    if form == "fraction":
        return plain.replace("⁄", "/")
    if not form or form in _SAME_IN_ANOTHER_SHAPE:
        return plain if form else None
    return _unfolded(plain)


def _unfolded(plain: str) -> str:
    """Write what is one character for several: a unit, or a number in a circle."""
    for symbol, written in (("μ", "u"), ("Ω", "Ohm"), ("∕", "/")):
        plain = plain.replace(symbol, written)
    digits = "".join(filter(str.isdecimal, plain))
    if not digits:
        return plain
    return _EXPONENT.sub("^", plain) if any(map(str.isalpha, plain)) else f"({digits})"
