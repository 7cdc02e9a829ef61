"""The lines that the program can log, read from its source, and whether a page lists them."""

from __future__ import annotations

import ast
import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pages import REPOSITORY

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "exception": logging.ERROR,
    "critical": logging.CRITICAL,
    # The level is a variable: it may be any.
    "log": logging.WARNING,
}


@dataclass(frozen=True, slots=True)
class Line:
    """What a call of a logger says, with `…` for what differs from time to time."""

    text: str
    place: str

    def __str__(self) -> str:
        return f"{self.place} {self.text}"


def logged(least: int) -> list[Line]:
    """List the lines of this level and above whose text stands in the call, or in a variable beside it."""
    lines: dict[str, Line] = {}
    for level, line in _program()[1]:
        if level >= least:
            lines.setdefault(line.text, line)
    return list(lines.values())


def quoted(page: str) -> list[str]:
    """List what a page quotes in the tables: one or several messages in the first column."""
    rows = re.findall(r"^\| (.+?) \|", page, re.MULTILINE)
    return [text for row in rows for text in re.findall(r"``? ?(.+?) ?``?(?=[ ,;|]|$)", row)]


def missing_words(message: str) -> list[str]:
    """List the fixed parts of a message that no text of the program has."""
    return [part for part in (piece.strip(' :;,()"?') for piece in message.split("…")) if part not in _program()[0]]


def fits(line: Line, documented: Iterable[str]) -> bool:
    """Whether one of the messages is this line: the fixed words of one are in the other, in order, from the beginning."""
    return any(
        _pattern(message).match(line.text) or _pattern(line.text).match(message)
        for message in documented
        if _has_words(message)
    )


def _pattern(message: str) -> re.Pattern[str]:
    parts = message.rstrip(": …").split("…")
    return re.compile(".*".join(map(re.escape, parts)), re.DOTALL)


def _has_words(text: str) -> bool:
    return len(re.sub(r"[^a-zA-Z]", "", text)) > 5


@cache
def _program() -> tuple[str, list[tuple[int, Line]]]:
    """Every text in the program's source, one a line; and each line that it logs, with its level."""
    texts: list[str] = []
    lines: list[tuple[int, Line]] = []
    for package in ("pylantir", "workers"):
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            texts += _texts(tree)
            lines += _read(path, tree)
    return "\n".join(texts), lines


def _read(path: Path, tree: ast.Module) -> Iterator[tuple[int, Line]]:
    named = _texts_by_name(tree)
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LEVELS):
            continue
        if "logger" not in ast.unparse(node.func.value):
            continue
        message = node.args[1 if node.func.attr == "log" else 0]
        for text in _texts(message) or named.get(ast.unparse(message), []):
            plain = re.sub(r"%[-.\d]*[a-zA-Z]", "…", text)
            if _has_words(plain):
                place = f"{path.relative_to(REPOSITORY)}:{node.lineno}"
                yield LEVELS[node.func.attr], Line(plain.rstrip("\n…"), place)


def _texts_by_name(tree: ast.AST) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found.setdefault(node.targets[0].id, []).extend(_texts(node.value))
    return found


def _texts(node: ast.AST) -> list[str]:
    return [part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str)]
