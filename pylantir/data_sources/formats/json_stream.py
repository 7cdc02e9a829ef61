"""Reads JSON piece by piece: a document may have any size, as only the current value is in memory.

Lives in the workers of JSON and REDCap sources. In: a function that gives the next characters; out: values. Messages
hold none of the values.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator

BLOCK_CHARS = 1 << 16
LARGEST_RECORD_CHARS = 4 << 20
_SPACE = re.compile(r"[ \t\r\n]*")
# How far before the end of a block a token can be cut: `-Infinity`, `\ud83d\ude00`, `1.5e+`.
_LONGEST_CUT = 16
_LONGEST_NAME = 64


class Malformed(Exception):
    """What is wrong with the form of a document; holds none of its values.

    Attributes:
        rest: The text that could not be read; a caller may look for an error message in it.
    """

    def __init__(self, reason: str, rest: str = "") -> None:
        super().__init__(reason)
        self.rest = rest


class RepeatedName(ValueError):
    """An object has a name twice, and nobody knows which value counts.

    Attributes:
        reason: What is wrong.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.reason = f'"{name[:_LONGEST_NAME]}" stands twice in one object'


def unrepeated(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Make an object of its members.

    Raises:
        RepeatedName: Two have the same name.
    """
    made = dict(pairs)
    if len(made) < len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise RepeatedName(name)
            seen.add(name)
    return made


class Scanner:
    """Takes JSON values from a text one by one, and holds only the current value.

    Args:
        read: Gives the next characters, about as many as it is asked for; "" at the end.
    """

    def __init__(self, read: Callable[[int], str]) -> None:
        self._read = read
        self._decode = json.JSONDecoder(object_pairs_hook=self._make_object).raw_decode
        self._repeated: RepeatedName | None = None
        self._buffer = ""
        self._position = 0
        self._dropped = 0

    def record(self) -> object:
        """Take a whole value; where an object in it has a name twice, that is the result."""
        self._repeated = None
        value = self.value()
        return self._repeated or value

    def _make_object(self, pairs: list[tuple[str, object]]) -> dict[str, object]:
        try:
            return unrepeated(pairs)
        except RepeatedName as error:
            # The rest of the value must be read all the same.
            self._repeated = error
            return {}

    def peek(self) -> str:
        """Give the next character that is no white space, or "" at the end."""
        while True:
            match = _SPACE.match(self._buffer, self._position)
            self._position = match.end() if match else self._position
            if self._position < len(self._buffer):
                return self._buffer[self._position]
            if not self._read_more():
                return ""

    def take(self, *expected: str) -> str:
        """Step over one of the expected characters and say which it was."""
        found = self.peek()
        if found not in expected or not found:
            raise self._malformed(f"expected {' or '.join(expected)}" if found else "the file ends too early")
        self._position += 1
        return found

    def rest(self) -> str:
        """Return the text that was read but not yet taken."""
        return self._buffer[self._position :]

    def expect_end(self) -> None:
        """Make sure that nothing follows."""
        if self.peek():
            raise self._malformed("expected the end of the file")

    def value(self) -> object:
        """Take a whole value."""
        self.peek()
        while True:
            try:
                value, end = self._decode(self._buffer, self._position)
            except json.JSONDecodeError as error:
                cut = error.pos >= len(self._buffer) - _LONGEST_CUT or error.msg.startswith("Unterminated")
                if not cut or not self._read_more():
                    self._position = error.pos
                    raise self._malformed(error.msg) from None
            except (ValueError, RecursionError) as error:
                raise self._malformed(f"{type(error).__name__}: a number too long or too many levels") from None
            else:
                # A number near the end of the block may go on in the next one: 1, 1.5, 1.5e+7.
                cut = isinstance(value, int | float) and end >= len(self._buffer) - _LONGEST_CUT
                if not cut or not self._read_more():
                    self._position = end
                    return value

    def skip_members(self) -> None:
        """Skip a value; an array or object is skipped member by member, to save memory."""
        if self.peek() == "[":
            for _ in self.members("[", "]"):
                self.value()
        elif self.peek() == "{":
            for _ in self.names():
                self.value()
        else:
            self.value()

    def members(self, opening: str, closing: str) -> Iterator[int]:
        """Stop before each member of an array or object, which the caller has to take; count them from 1."""
        self.take(opening)
        more = self.peek() != closing
        if not more:
            self.take(closing)
        count = 0
        while more:
            count += 1
            yield count
            more = self.take(",", closing) == ","

    def names(self) -> Iterator[str]:
        """Stop before each value of an object, which the caller has to take; give its key."""
        for _ in self.members("{", "}"):
            if self.peek() != '"':
                raise self._malformed("expected a name in quotes")
            key = str(self.value())
            self.take(":")
            yield key

    def _read_more(self) -> bool:
        if len(self._buffer) - self._position > LARGEST_RECORD_CHARS:
            raise self._malformed(f"a record has more than {LARGEST_RECORD_CHARS} characters, or a quote is missing")
        # Read as much again as is waiting already; otherwise a long record would be scanned once per block.
        more = self._read(max(BLOCK_CHARS, len(self._buffer) - self._position))
        if not more:
            return False
        self._dropped += self._position
        self._buffer = self._buffer[self._position :] + more
        self._position = 0
        return True

    def _malformed(self, what: str) -> Malformed:
        return Malformed(f"character {self._dropped + self._position + 1}: {what}", self._buffer[self._position :])
