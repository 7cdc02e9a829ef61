"""Writes new files, and overwrites none."""

from __future__ import annotations

from pathlib import Path

from pylantir.errors import PylantirError


def refuse_existing(*paths: Path) -> None:
    """Check that none of the files exists.

    Raises:
        PylantirError: One does.
    """
    for path in paths:
        if path.exists():
            raise PylantirError(f"{path}: exists already and is not overwritten; name another file")


def write_new(path: Path, text: str) -> None:
    """Write a file that must not exist yet."""
    with path.open("x", encoding="utf-8") as file:
        file.write(text)
