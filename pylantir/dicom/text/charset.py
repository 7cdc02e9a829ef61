"""Writing text in the character set that a scanner reads.

Lives in the server process. Text and the values of Specific Character Set come in; bytes go out, and what was lost of
the text. A character that the set lacks is written in Latin letters, or else as a `?`, and the loss is reported.

Source: DICOM PS3.5 6.1.2 (character repertoires, code extensions), 6.2.1 (person names), annexes H, I, K; PS3.3
C.12.1.1.2 (Specific Character Set).
"""

from __future__ import annotations

import enum
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

from pylantir.dicom.text.symbols import is_symbol, runs, spelled_out
from pylantir.dicom.text.transliteration import kana_as_romaji, romanised

MAX_LENGTHS = MappingProxyType({"PN": 64, "LO": 64, "SH": 16})
"""Longest value in characters, of a person name per group (PS3.5 table 6.2-1)."""

# East Asian sets have accented letters too, which hardly any reader of theirs can show.
_LAST_LATIN = "\u024f"


def charset_name(terms: Sequence[str]) -> str:
    """Name a scanner's character set in a message; without one, answers are in UTF-8."""
    return "\\".join(terms) or ("ISO_IR 6" if terms else "ISO_IR 192")


class Loss(enum.IntEnum):
    """What became of a text on its way into a character set; the greater, the worse."""

    NONE = 0
    TRANSLITERATED = 1
    INCOMPLETE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """A value as it goes over the wire.

    Attributes:
        data: Its bytes, without padding.
        loss: What they lack.
        is_ascii: It needs no Specific Character Set.
    """

    data: bytes
    loss: Loss
    is_ascii: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """One code element of a repertoire: G0 (bytes below 0x80) or G1 (above), and how it is called in."""

    is_g0: bool
    escape: bytes
    encode: Callable[[str], bytes | None]


def _upper_half(codec: str, character: str) -> bytes | None:
    data = _bytes(codec, character)
    return data if data and len(data) == 1 and data[0] >= 0xA0 else None


def _double(codec: str, character: str) -> bytes | None:
    data = _bytes(codec, character)
    return data if data and len(data) == 2 and data[0] > 0xA0 and character > _LAST_LATIN else None


def _jis(length: int, character: str) -> bytes | None:
    # EUC-JP holds JIS X 0208 in two bytes and JIS X 0212 in three, each with the high bit set.
    data = _bytes("euc_jp", character)
    if data is None or len(data) != length or data[0] == 0x8E or character <= _LAST_LATIN:
        return None
    return bytes(byte & 0x7F for byte in data[-2:])


def _half_width_kana(character: str) -> bytes | None:
    return bytes((ord(character) - 0xFEC0,)) if "｡" <= character <= "ﾟ" else None


def _bytes(codec: str, character: str) -> bytes | None:
    try:
        return character.encode(codec)
    except UnicodeError:
        return None


def _ascii(character: str) -> bytes | None:
    return character.encode() if character.isascii() else None


def _romaji(character: str) -> bytes | None:
    # In ISO-IR 14 a yen sign and an overline take the places of backslash and tilde.
    return character.encode() if character.isascii() and character not in "\\~" else None


_ASCII = _Part(is_g0=True, escape=b"\x1b(B", encode=_ascii)
_ROMAJI = _Part(is_g0=True, escape=b"\x1b(J", encode=_romaji)
_PARTS: Mapping[str, _Part] = MappingProxyType(
    {
        **{
            number: _Part(is_g0=False, escape=b"\x1b-" + final, encode=partial(_upper_half, codec))
            for number, final, codec in (
                ("100", b"A", "latin_1"),
                ("101", b"B", "iso8859_2"),
                ("109", b"C", "iso8859_3"),
                ("110", b"D", "iso8859_4"),
                ("126", b"F", "iso8859_7"),
                ("127", b"G", "iso8859_6"),
                ("138", b"H", "iso8859_8"),
                ("144", b"L", "iso8859_5"),
                ("148", b"M", "iso8859_9"),
                ("166", b"T", "tis_620"),
            )
        },
        "13": _Part(is_g0=False, escape=b"\x1b)I", encode=_half_width_kana),
        "58": _Part(is_g0=False, escape=b"\x1b$)A", encode=partial(_double, "gb2312")),
        "149": _Part(is_g0=False, escape=b"\x1b$)C", encode=partial(_double, "euc_kr")),
        "87": _Part(is_g0=True, escape=b"\x1b$B", encode=partial(_jis, 2)),
        "159": _Part(is_g0=True, escape=b"\x1b$(D", encode=partial(_jis, 3)),
    }
)
_WHOLE: Mapping[str, str] = MappingProxyType({"ISO_IR 192": "utf_8", "GB18030": "gb18030", "GBK": "gbk"})


class CharacterSet:
    """One value, or several, of Specific Character Set."""

    def __init__(self, terms: Sequence[str]) -> None:
        """Prepare to write.

        Args:
            terms: Of `pylantir.settings.CHARACTER_SETS`; the first may be empty, for ASCII.
        """
        self.terms = tuple(terms)
        numbers = [term.rpartition(" ")[2] for term in self.terms]
        self._codec = _WHOLE.get(self.terms[0])
        base = _ROMAJI if numbers[0] == "13" else _ASCII
        parts = [base] + ([] if base is _ASCII else [_ASCII] if len(numbers) > 1 else [])
        parts += [_PARTS[number] for number in numbers if number in _PARTS]
        self._parts = tuple(dict.fromkeys(parts))
        first = _PARTS.get(numbers[0])
        self._initial = {True: base, False: None if first is None or first.is_g0 else first}

    def holds(self, text: str) -> bool:
        """Whether the set has every character of a text as it is."""
        return all(map(self._has, text))

    def encode_exactly(self, text: str) -> bytes:
        """Write a text that the set holds, character by character: an identifier, say."""
        return self._bytes(text)

    def encode(self, text: str, vr: str) -> Encoded:
        """Write one value that people read. A value that is not empty never becomes empty.

        Args:
            text: Without backslashes and control characters.
            vr: Its value representation; in a person name the groups are told apart.
        """
        text = unicodedata.normalize("NFC", text)
        if text.isascii() and self._parts[0] is _ASCII:
            return Encoded(data=text.encode(), loss=Loss.NONE, is_ascii=True)
        written, loss = self._fit_name(text) if vr == "PN" else self._fit(text, in_name=False)
        limit = MAX_LENGTHS.get(vr)
        if limit is not None and loss is not Loss.NONE:
            groups = written.split("=") if vr == "PN" else [written]
            if any(len(group) > limit for group in groups):
                written = "=".join(group[:limit] for group in groups) if vr == "PN" else _shortened(written, limit)
                loss = Loss.INCOMPLETE
        if text.strip() and not written.strip():
            written, loss = "?", Loss.INCOMPLETE
        return Encoded(data=self._bytes(written), loss=loss, is_ascii=written.isascii())

    def _fit_name(self, name: str) -> tuple[str, Loss]:
        """Fit a person name: a group that is not readable gives way to one that is."""
        fitted = [self._fit_group(group) for group in name.split("=")]
        worst = max(loss for _, loss in fitted)
        if worst is Loss.NONE:
            return name, worst
        alphabetic = fitted[0][0]
        readings = [group for group, loss in fitted[1:] if group.strip("^") and loss is not Loss.INCOMPLETE]
        if readings and (fitted[0][1] is Loss.INCOMPLETE or not alphabetic.strip("^")):
            alphabetic = readings[-1]
        elif not alphabetic.strip("^"):
            # Nobody can read it, but a name may not be empty.
            alphabetic = next((group for group, _ in fitted[1:] if group.strip("^")), "?")
        # Letter by letter is good enough to read, but not to stand beside the name in its own script.
        groups = [alphabetic] + [group if loss is Loss.NONE else "" for group, loss in fitted[1:]]
        is_readable = "?" not in alphabetic or (fitted[0][1] is not Loss.INCOMPLETE and alphabetic == fitted[0][0])
        return "=".join(groups).rstrip("="), Loss.TRANSLITERATED if is_readable else Loss.INCOMPLETE

    def _fit_group(self, group: str) -> tuple[str, Loss]:
        text, loss = self._fit(group, in_name=True)
        if loss is not Loss.NONE:
            # Most scripts have no capital letters to begin a name with.
            text = "^".join(self._capitalised(part) for part in text.split("^"))
        return text, loss

    def _capitalised(self, text: str) -> str:
        capital = text[:1].upper() + text[1:]
        return capital if self.holds(capital) else text

    def _fit(self, text: str, *, in_name: bool) -> tuple[str, Loss]:
        if self.holds(text):
            return text, Loss.NONE
        loss, result = Loss.TRANSLITERATED, ""
        for run, before, after in runs(kana_as_romaji(text)):
            if self.holds(run):
                result += run
            elif is_symbol(run, in_name=in_name):
                written = spelled_out(run, before, after, in_name=in_name)
                if written is None or not self.holds(written):
                    loss, written = Loss.INCOMPLETE, "?" * len(run)
                result += written
            else:
                for letter in run:
                    roman = letter if self._has(letter) else romanised(letter)
                    if roman is None or not self.holds(roman):
                        loss, roman = Loss.INCOMPLETE, "?"
                    result += roman
        return result, loss

    def _has(self, character: str) -> bool:
        if self._codec:
            return _bytes(self._codec, character) is not None
        return any(part.encode(character) is not None for part in self._parts)

    def _bytes(self, text: str) -> bytes:
        """Write a text that fits: each part that the next character needs is called in, and left at delimiters."""
        if self._codec:
            return text.encode(self._codec)
        data = b""
        active = dict(self._initial)
        for character in text:
            if character in "^=":
                data += self._leave(active) + character.encode()
                active = dict(self._initial)
                continue
            part, code = self._code(character, active)
            if not part.is_g0 and active[True] is not self._initial[True]:
                # Many readers take a fragment for one part alone.
                data += self._leave(active)
                active[True] = self._initial[True]
            if active[part.is_g0] is not part:
                data += part.escape
                active[part.is_g0] = part
            data += code
        return data + self._leave(active)

    def _leave(self, active: Mapping[bool, _Part | None]) -> bytes:
        initial = self._initial[True]
        return initial.escape if initial and active[True] is not initial else b""

    def _code(self, character: str, active: Mapping[bool, _Part | None]) -> tuple[_Part, bytes]:
        for part in sorted(self._parts, key=lambda part: part not in active.values()):
            code = part.encode(character)
            if code is not None:
                return part, code
        raise UnicodeEncodeError(self.terms[0], character, 0, 1, "not in the character set")


def _shortened(text: str, limit: int) -> str:
    """Cut a text to the limit between two words, and never after a number: half of a number is another number."""
    words = text[: limit - 1].rpartition(" ")[0].split(" ")
    while words and any(map(str.isdecimal, words[-1])):
        words.pop()
    kept = " ".join(words) or text[: limit - 1].rstrip("0123456789.,/^_+-")
    return kept + "?"
