"""Reads REDCap's answers, whole or row by row, and recognises errors in them.

Lives in the worker of a REDCap source. In: the pieces of a body as they arrive; out: rows as dictionaries of text.
"""

from __future__ import annotations

import codecs
import itertools
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from pylantir.data_sources.formats.json_stream import Malformed, Scanner
from pylantir.errors import SourceUnavailable

Row = dict[str, Any]

OUT_OF_MEMORY = re.compile(rb"ran out of (?:server )?memory|allowed memory size", re.IGNORECASE)
LARGEST_ANSWER_BYTES = 64 << 20
LARGEST_LIST_BYTES = 128 << 20
_LONGEST_MESSAGE = 300
_TYPES_OF_VALUES = frozenset({str, int, float, type(None)})
_XML_ERROR = re.compile(r"<error>(.*?)</error>", re.DOTALL)


class TransientError(Exception):
    """A failure that may soon be over."""

    def __init__(self, reason: str, retry_after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class TooMuchError(TransientError):
    """REDCap ran out of memory during this request, or its answer is too large; a smaller request may succeed."""


class RedcapRefused(SourceUnavailable):
    """REDCap understood the request and refused it; repeating it is useless."""


class RedcapError(Exception):
    """The message of an `{"error": …}` that REDCap sent with HTTP status 200."""


def read_rows(chunks: Iterable[bytes]) -> list[Row]:
    """Read a whole answer.

    Raises:
        TransientError: It is empty, cut off or no JSON.
        TooMuchError: It is larger than any that REDCap should give.
        RedcapError: It is an error in JSON.
    """
    body = b"".join(_bounded(chunks, LARGEST_ANSWER_BYTES))
    try:
        return _rows_or_error(json.loads(body, parse_constant=_refuse_constant))
    except (ValueError, RecursionError):
        raise _not_json(body) from None


def read_records(chunks: Iterable[bytes]) -> list[Row]:
    """Read a whole answer whose rows have plain values: an object or `true` is nobody's patient ID.

    Raises:
        As `read_rows`.
    """
    rows = read_rows(chunks)
    if not all(_TYPES_OF_VALUES.issuperset(map(type, row.values())) for row in rows):
        raise TransientError("the answer has other values than texts and numbers")
    return rows


def iter_rows(chunks: Iterable[bytes]) -> Iterator[Row]:
    """Read an answer row by row, holding no more than a piece or two of it.

    Raises:
        As `read_rows`; rows may have been given before.
    """
    pieces = _bounded(chunks, LARGEST_LIST_BYTES)
    text_of = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
    # A piece may end within a character and give an empty text, which does not mean the end.
    scanner = Scanner(lambda _size: next(filter(None, map(text_of, pieces)), ""))
    try:
        if scanner.peek() != "[":
            yield from read_rows(itertools.chain([scanner.rest().encode()], pieces))
            return
        for _ in scanner.members("[", "]"):
            yield from _rows_or_error([scanner.value()])
    except Malformed as error:
        raise _not_json(error.rest.encode()) from None
    for _ in pieces:  # read to the end: only then is the connection used again
        pass


def error_text(body: bytes) -> str:
    """Read REDCap's message in the body of a refusal, in JSON or XML; "" if the body is neither."""
    try:
        answer = json.loads(body)
    except ValueError:
        match = _XML_ERROR.search(body.decode(errors="replace"))
        return match[1].strip()[:_LONGEST_MESSAGE] if match else ""
    return str(answer["error"])[:_LONGEST_MESSAGE] if isinstance(answer, dict) and "error" in answer else ""


def _rows_or_error(answer: object) -> list[Row]:
    if isinstance(answer, dict) and "error" in answer:
        raise RedcapError(str(answer["error"])[:_LONGEST_MESSAGE])
    if not isinstance(answer, list) or not all(isinstance(row, dict) for row in answer):
        raise TransientError("the answer is JSON, but no list of rows")
    return answer


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def _bounded(chunks: Iterable[bytes], most: int) -> Iterator[bytes]:
    """Pass on the pieces of a body; stop before an answer without an end has filled the memory."""
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > most:
            raise TooMuchError(f"the answer has more than {most >> 20} MiB")
        yield chunk


def _not_json(body: bytes) -> TransientError:
    if not body.strip():
        return TransientError("an empty answer, as REDCap gives under load")
    if OUT_OF_MEMORY.search(body):
        return TooMuchError("REDCap ran out of server memory")
    # The body itself is not quoted: a truncated answer holds patients' data.
    return TransientError("the answer is cut off or no JSON (a proxy's page? maintenance?)")
