"""Reads a configuration file as JSON, reports repeated keys and removes comments.

Lives in the configuration check. In: a path. Out: a plain dictionary whose contents are not checked yet.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from pylantir.config.messages import Finding, Place
from pylantir.errors import ConfigurationError

_DEEPEST = 100
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]')


def read_document(path: Path) -> tuple[dict[str, object], list[Finding]]:
    """Read a configuration file.

    Returns:
        The document without comments (keys that start with `_`), and a finding for every repeated key.

    Raises:
        ConfigurationError: The file cannot be read, or is no JSON object; with line and column.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigurationError([f"{path.name}: cannot be read: {error.strerror} ({path})"]) from None
    except UnicodeDecodeError as error:
        raise ConfigurationError([f"{path.name}: byte {error.start}: not UTF-8; save the file as UTF-8"]) from None
    try:
        document = _without_comments(json.loads(text, parse_constant=_refuse_constant))
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise ConfigurationError([f"{path.name}: {place}: {error.msg}{_advise(text, error)}"]) from None
    except (ValueError, RecursionError) as error:
        raise ConfigurationError([f"{path.name}: not usable as JSON: {error}"]) from None
    if not isinstance(document, dict):
        raise ConfigurationError([f"{path.name}: expected an object in {{ }}, got something else"])
    return document, list(_repeated_keys(text))


def _advise(text: str, error: json.JSONDecodeError) -> str:
    """Say what is probably wrong at the place where a text stops being JSON; nothing if that is not known."""
    here = text[error.pos :]
    if not text.strip():
        return "; the file is empty: `pylantir init` writes a first one under another name"
    if not here.strip():
        return "; the file ends here: a bracket is not closed"
    if re.match(r"[“”„‟″'‘’‚`]", here):  # noqa: RUF001 - what word processors write in place of "
        return '; only the straight quote " begins and ends a text'
    if re.match(r"//|/\*|#", here):
        return '; JSON has no comments: write "_comment": "…"'
    if re.match(r"(true|false|null|none)\b", here, re.IGNORECASE):
        return "; write true, false or null"
    if error.msg.startswith("Invalid \\"):
        return "; write each backslash of a text twice"
    return "; is there a comma too many before it?" if re.search(r",\s*$", text[: error.pos]) else ""


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _without_comments(value: object, depth: int = 0) -> object:
    if depth > _DEEPEST:
        # How deeply nested a document `json` itself accepts depends on the version of Python.
        raise ValueError(f"more than {_DEEPEST} levels deep")
    if isinstance(value, dict):
        return {key: _without_comments(item, depth + 1) for key, item in value.items() if not _is_comment(key)}
    if isinstance(value, list):
        return [_without_comments(item, depth + 1) for item in value]
    return value


def _is_comment(key: str) -> bool:
    # The public project's name for `extract` begins with `_`, like a comment.
    return key.startswith("_") and key != "_extract"


class _Container:
    """An object or a list that the walk over the text is in."""

    def __init__(self, *, is_object: bool) -> None:
        self.seen: dict[str, int] = {}
        self.is_object = is_object
        self.part: str | int = "" if is_object else 0


def _repeated_keys(text: str) -> Iterator[Finding]:
    """Find keys that occur twice in one object of this valid JSON; `json` silently keeps the last one."""
    inside: list[_Container] = []
    string = ""
    for token in _TOKEN.finditer(text):
        sign = token.group()
        if sign[0] == '"':
            string, start = sign, token.start()
        elif sign in "{[":
            inside.append(_Container(is_object=sign == "{"))
        elif sign in "}]":
            inside.pop()
        elif sign == ",":
            if isinstance(inside[-1].part, int):
                inside[-1].part += 1
        else:
            key, here = json.loads(string), inside[-1]
            here.part = key
            line = text.count("\n", 0, start) + 1
            if key in here.seen and not key.startswith("_"):
                place: Place = tuple(container.part for container in inside[:-1])
                column = start - text.rfind("\n", 0, start)
                told = f'line {line}, column {column}: duplicate key "{key}", first in line {here.seen[key]}'
                yield Finding(place=place, text=told)
            here.seen.setdefault(key, line)
