"""Passes on the bytes of a text file, and gives up a file in which a line never ends.

Lives in source workers, under the CSV plugin. In: an open file; out: the same, for a decoder to read.
"""

from __future__ import annotations

import io

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LONGEST_LINE_BYTES = 8 << 20


class LineTooLong(Exception):
    """A line is longer than any that a program would write."""


class BoundedLines(io.BufferedIOBase):
    """Passes on a file's bytes, and stops before a line without an end has filled the memory."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._length = 0

    def readable(self) -> bool:
        """Say that the bytes can be read."""
        return True

    def read1(self, size: int = -1) -> bytes:
        """Read the next block.

        Raises:
            LineTooLong: The line that it belongs to does not end.
        """
        block: bytes = self._file.read1(size)
        end = max(block.rfind(b"\n"), block.rfind(b"\r")) + 1
        self._length = len(block) - end if end else self._length + len(block)
        if self._length > LONGEST_LINE_BYTES:
            raise LineTooLong
        return block
