"""Writes a problem of a configuration in one line: file, place, what was expected, what was found.

Lives in the configuration check. Imports no pydantic, and shows no value that may be a secret.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pylantir.printing import printable

Place = tuple[str | int, ...]

EXPECTED = "expected"
"""Error type whose context says `what` was expected."""
RULE = "rule"
"""Error type whose context has the whole `text`."""

OBJECT, MANY, ONE = FORMS = ("(object)", "(list)", "(text)")
"""Parts that pydantic adds to the place of a problem to mark a value's form; they are not shown."""

_KINDS = {
    "string_type": "text",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a number",
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "too_short": "a list that is not empty",
}
_SECRET_KEY = re.compile(r"token|passw|secret|credential|url|dsn|key$|_env$", re.IGNORECASE)
_USER_INFO = re.compile(r"//[^/]*@")
"""Matches the user and the password in a URL."""
_SHOWN_LENGTH = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One error or warning.

    Attributes:
        place: Keys and list positions from the top of the document.
        text: What is wrong and what to do.
    """

    place: Place
    text: str

    def line(self, file: str, renamed: Mapping[Place, str]) -> str:
        """Write the finding as one line.

        Args:
            file: The file's name, as its owner knows it.
            renamed: Place -> the name under which its owner knows it, where the document was converted or overridden.
        """
        for length in range(len(self.place), 0, -1):
            known_as = renamed.get(self.place[:length])
            if known_as is not None:
                where = known_as + written(self.place[length:], start=False)
                break
        else:
            where = written(self.place)
        # A key of the file or its name may hold any character, line breaks too, and must not forge a line of the log.
        return printable(f"{file}: {where}: {self.text}" if where else f"{file}: {self.text}")


def written(place: Place, *, start: bool = True) -> str:
    """Write a place as `data_sources[0].config.file_path`."""
    text = ""
    for part in place:
        if isinstance(part, int):
            text += f"[{part}]"
        elif re.fullmatch(r"[\w$-]+", part):
            text += f".{part}" if text or not start else part
        else:
            text += f"[{json.dumps(part, ensure_ascii=False)}]"
    return text


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that was probably meant, or None."""
    import difflib

    by_lower = {candidate.lower(): candidate for candidate in known}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[near[0]] if near else None


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return `: did you mean "…"?` if one of the known names is near, else nothing."""
    near = nearest(name, known)
    return f': did you mean "{near}"?' if near else ""


def unknown_key(name: str, known: Iterable[str]) -> str:
    """Say that a key is unknown, and name a similar key, or else all keys."""
    known = list(known)
    return f'unknown key "{name}"' + (suggestion(name, known) or f"; known are {', '.join(known)}")


def found(place: Place, value: object) -> str:
    """Describe a wrong value; a value that may be a secret is not shown."""
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list):
        plain = len(value) <= 4 and all(isinstance(item, bool | int | float) for item in value)
        return json.dumps(value) if plain else "a list"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if "config" in place or any(isinstance(part, str) and _SECRET_KEY.search(part) for part in place):
        return "a value that is not shown here"
    text = json.dumps(value, ensure_ascii=False)
    if _USER_INFO.search(text):
        return "a value that is not shown here"
    return text if len(text) <= _SHOWN_LENGTH else text[:_SHOWN_LENGTH] + "…"


def explain(error: Mapping[str, object], known_keys: Iterable[str]) -> Finding:
    """Turn one entry of pydantic's `ValidationError.errors()` into a finding.

    Args:
        error: With `type`, `loc`, `input`, `msg` and perhaps `ctx`.
        known_keys: The keys of the object that the place is in, for suggestions.
    """
    place: Place = tuple(part for part in error["loc"] if part not in FORMS)  # type: ignore[attr-defined]
    kind, value = str(error["type"]), error.get("input")
    context: Mapping[str, object] = error.get("ctx") or {}  # type: ignore[assignment]
    if kind == "extra_forbidden":
        text = unknown_key(str(place[-1]), known_keys)
        if place[0] == "data_sources" and len(place) == 3 and "did you mean" not in text:
            text += '; what the source\'s type itself needs, as file_path, stands in "config"'
        return Finding(place=place[:-1], text=text)
    if kind == "missing":
        return Finding(place=place[:-1], text=f'the key "{place[-1]}" is missing')
    if kind == RULE:
        return Finding(place=place, text=str(context["text"]))
    what = context.get("what") or _KINDS.get(kind)
    if what is None:
        return Finding(place=place, text=str(error["msg"]))
    shown = "text" if isinstance(value, str) and what in {"a list", "an object"} else found(place, value)
    return Finding(place=place, text=f"expected {what}, got {shown}")
