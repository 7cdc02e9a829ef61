"""Finds a file's encoding, and the first place that does not follow it.

Lives in source workers. In: an open file; out: the name of an encoding, a line. Leaves the file at its first character.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

from pylantir.data_sources.formats.file_kind import HEAD_BYTES, unmarked_utf16

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

_BLOCK_BYTES = 1 << 20
_NO_NAME = re.compile(
    "[€†‡‰™ˆ˜•¡¢£¤¥¦§¨©¬®¯°±²³¶¸¹¼½¾¿×÷]"  # noqa: RUF001 - signs that stand in no name
    r"|(?<=[^\W\d_])[…‚„“”‹›«»–—](?=[a-zß-ÿ])"  # noqa: RUF001 - signs within a word: J”rg
    r"|(?<=[^\W\d_])[ŠŒŽŸ](?=[a-z])|(?<=[a-z])[ŠŒŽŸ]"  # capitals within a word: MŸller
    r"|[ÂÃ][^\sA-Za-zÀ-ÿ^=,.'’-]"  # noqa: RUF001 - two bytes of UTF-8: GroÃŸ
    "|[À-ÿ]{5}"  # Èâàíîâ
)


@dataclass(frozen=True, slots=True)
class Undecodable:
    """The first byte that an encoding cannot decode."""

    line: int
    byte: int

    def __str__(self) -> str:
        return f"line {self.line}: byte 0x{self.byte:02x}"


def skip_byte_order_mark(file: BinaryIO) -> str:
    """Step over a byte order mark and say which encoding it announces; UTF-8 without one."""
    start = file.read(4)
    if start in {codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE}:
        file.seek(0)
        return "utf-32"
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        file.seek(0)
        return "utf-16"
    # Not "utf-8-sig": Python decodes that several times slower than "utf-8".
    marked = start.startswith(codecs.BOM_UTF8)
    file.seek(0)
    encoding = "utf-8" if marked else unmarked_utf16(file.read(HEAD_BYTES)) or "utf-8"
    file.seek(len(codecs.BOM_UTF8) if marked else 0)
    return encoding


def find_undecodable(file: BinaryIO, encoding: str) -> Undecodable | None:
    """Find the first byte that is not text; this reads the whole file, which costs little compared with parsing it.

    Args:
        file: Read from where it stands, and put back there.
        encoding: The encoding to try.
    """
    start = file.tell()
    decoder = codecs.getincrementaldecoder(encoding)()
    line = 1
    try:
        block = file.read(_BLOCK_BYTES)
        while block:
            line += decoder.decode(block).count("\n")
            block = file.read(_BLOCK_BYTES)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        line += error.object[: error.start].decode(encoding, "replace").count("\n")
        return Undecodable(line, error.object[error.start])
    finally:
        file.seek(start)
    return None


def looks_misread(name: str) -> bool:
    """Say whether a person's name, read as cp1252, was probably written in another encoding.

    True only for what no name has; letters that are merely others (`Dvoøák` for `Dvořák`) cannot be told.
    """
    return not name.isascii() and _NO_NAME.search(name) is not None
