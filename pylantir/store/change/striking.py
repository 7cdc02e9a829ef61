"""Finds a patient's values in stored texts and strikes them out. Pure.

Lives in the writer. In: the values, and texts or JSON of the database. Out: whether a text names the patient, and the
texts without the values.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping

ERASED = "[erased]"
_SHORTEST = 4
"""A shorter value is struck out only where it is a whole text: within a text it may be anything."""


def mentions(value: str, text: object) -> bool:
    """Whether a column's text contains a value as a whole word; JSON's escapes are resolved first."""
    return _whole(value).search(_plain(text)) is not None


def stored_forms(value: str) -> set[str]:
    """Return the forms that a value can have in a column: as it is, and within JSON of both kinds."""
    return {value, json.dumps(value, ensure_ascii=False)[1:-1], json.dumps(value)[1:-1]}


def strike_all(values: Iterable[str], text: str) -> str:
    """Strike values out of a text, longer ones first: one may be a part of another."""
    for value in sorted(values, key=len, reverse=True):
        text = _whole(value).sub(ERASED, text)
    return text


def strike_json(value: object, values: Iterable[str]) -> object:
    """Strike values out of every text of a JSON value."""
    if isinstance(value, str):
        return strike_all(values, value)
    if isinstance(value, list):
        return [strike_json(one, values) for one in value]
    if isinstance(value, Mapping):
        return {name: strike_json(one, values) for name, one in value.items()}
    return value


def _whole(value: str) -> re.Pattern[str]:
    """Match a value in a text where it is no part of a longer word or number."""
    escaped = re.escape(value)
    whole = rf"(?<!\w){escaped}(?!\w)" if len(value) >= _SHORTEST else rf"^{escaped}$"
    return re.compile(whole, re.IGNORECASE | re.MULTILINE)


def _plain(value: object) -> str:
    """Return a column's text with JSON's escapes resolved, so that it can be compared."""
    text = "" if value is None else str(value)
    if text[:1] in "[{":
        try:
            return "\n".join(_texts(json.loads(text)))
        except ValueError:
            return text
    return text


def _texts(value: object) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, one in value.items():
            yield str(name)
            yield from _texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)
