"""Compiles the date and time formats of a source's configuration into strict patterns.

Pure. `strptime` reads "1122026" by "%m%d%Y" as a day in January. Here a text is accepted only if the format can be
applied in one way: numbers without a separator need their full width, and so do years, minutes and seconds.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from functools import lru_cache

SPECIAL = ("excel", "epoch", "epoch_ms")
"""Formats of numbers: days since 1899-12-30, seconds since 1970, milliseconds since 1970 (both in UTC)."""

_MONTHS = (
    "january jan januar jän jaen jänner janvier janv enero ene gennaio gen januari janeiro",
    "february feb februar feber février fevrier févr fevr fév febrero febbraio februari fevereiro fev",
    "march mar märz maerz mär mrz mars marzo maart mrt marts março marco",
    "april apr avril avr abril abr aprile",
    "may mai mayo maggio mag mei maj maio",
    "june jun juni juin junio giugno giu junho",
    "july jul juli juillet juil julio luglio lug julho",
    "august aug août aout agosto ago augustus augusti",
    "september sep sept septembre septiembre settembre set setembro",
    "october oct oktober okt octobre octubre ottobre ott outubro out",
    "november nov novembre noviembre novembro",
    "december dec dezember dez décembre decembre déc diciembre dic dicembre december dezembro",
)
_MONTH_NUMBERS: Mapping[str, int] = {
    name: number for number, names in enumerate(_MONTHS, start=1) for name in names.split()
}
_LETTERS = r"[^\W\d_]+\.?"
_ZONE = r"(?:Z|UTC|GMT|[+-][0-9]{2}:?[0-9]{2}(?::?[0-9]{2})?)"
_NUMBERS = {"d": 2, "m": 2, "y": 2, "Y": 4, "H": 2, "I": 2, "M": 2, "S": 2, "j": 3}
_FULL_WIDTH = "YyjMS"
"""A minute of one digit has lost its zero: 9.5 was 9.50 before a spreadsheet took it for a number."""
_OTHERS = {"f": r"[0-9]{1,9}", "b": _LETTERS, "p": r"[AaPp]\.?\s?[Mm]\.?", "a": _LETTERS, "z": _ZONE}
_SAME = {"e": "d", "B": "b", "h": "b", "A": "a", "Z": "z", "k": "H", "l": "I"}
_COMPOSED = {"%T": "%H:%M:%S", "%R": "%H:%M", "%D": "%m/%d/%y", "%F": "%Y-%m-%d", "%r": "%I:%M:%S %p"}
_TOKEN = re.compile(r"%[-#]?(.)|(\s+)|(.)", re.DOTALL)


class Format:
    """One compiled format.

    Attributes:
        text: The format as configured.
        has_date: It contains year, month and day.
        has_time: It contains the hour.
        digits: Length of the texts that it reads, if these are digits only; 0 if it has separators or names.
        short_year: The year has two digits.
    """

    def __init__(self, text: str) -> None:
        """Compile a format.

        Raises:
            ValueError: The format has an unsupported directive, or a directive twice.
        """
        self.text = text
        parts = _split(text)
        letters = {name for name, _ in parts if name}
        if len(letters) < sum(bool(name) for name, _ in parts):
            raise ValueError("a directive stands twice")
        pattern = ""
        for place, (name, literal) in enumerate(parts):
            width = _NUMBERS.get(name)
            if not name:
                pattern += r"\s+" if literal.isspace() else re.escape(literal)
            elif width is None:
                pattern += f"(?P<{name}>{_OTHERS[name]})"
            else:
                touched = (parts[place - 1][0] if place else "", parts[place + 1][0] if place + 1 < len(parts) else "")
                full = name in _FULL_WIDTH or any(other in _NUMBERS or other == "f" for other in touched)
                pattern += f"(?P<{name}>[0-9]{{{width if full else f'1,{width}'}}})"
        self._pattern = re.compile(pattern, re.IGNORECASE)
        self.has_date = bool(letters & {"Y", "y"}) and bool(letters & {"m", "b"}) and "d" in letters
        self.has_date |= bool(letters & {"Y", "y"}) and "j" in letters
        self.has_time = "H" in letters or {"I", "p"} <= letters
        self.digits = sum(_NUMBERS[name] for name, _ in parts) if all(name in _NUMBERS for name, _ in parts) else 0
        self.short_year = "y" in letters

    def read(self, text: str) -> dict[str, int | str] | None:
        """Take a text apart.

        Returns:
            `year month day` where the format has a date, `hour minute second` where it has a time, `zone` as it was
            written; None if the text has another form, or says what cannot be.
        """
        match = self._pattern.fullmatch(text)
        if match is None:
            return None
        said = match.groupdict()
        found: dict[str, int | str] = {}
        if self.has_date:
            day = _read_date(said)
            if day is None:
                return None
            found |= {"year": day.year, "month": day.month, "day": day.day}
        if self.has_time:
            clock = _read_clock(said)
            if clock is None:
                return None
            found |= clock
        if said.get("z"):
            found["zone"] = said["z"]
        return found


@lru_cache(maxsize=256)
def compile_format(text: str) -> Format:
    """Compile a format, and cache the result; see `Format`."""
    return Format(text)


def _split(text: str) -> list[tuple[str, str]]:
    for short, long in _COMPOSED.items():
        text = text.replace(short, long)
    parts: list[tuple[str, str]] = []
    for directive, space, literal in _TOKEN.findall(text):
        if directive == "%":
            parts.append(("", "%"))
        elif directive:
            name = _SAME.get(directive, directive)
            if name not in _NUMBERS and name not in _OTHERS:
                raise ValueError(f"%{directive} is not supported")
            parts.append((name, ""))
        else:
            parts.append(("", space or literal))
    return parts


def _read_date(said: Mapping[str, str | None]) -> datetime.date | None:
    year = int(said.get("Y") or 0) or _full_year(int(said.get("y") or 0))
    try:
        if said.get("j"):
            day = datetime.date(year, 1, 1) + datetime.timedelta(days=int(said["j"] or 0) - 1)
            return day if day.year == year else None
        number = said.get("m")
        month = int(number) if number else _MONTH_NUMBERS.get((said.get("b") or "").lower().rstrip("."), 0)
        return datetime.date(year, month, int(said["d"] or 0))
    except ValueError:
        return None


def _full_year(short: int) -> int:
    """Read a year of two digits as POSIX does: 69 to 99 belong to the last century."""
    return short + (1900 if short >= 69 else 2000)


def _read_clock(said: Mapping[str, str | None]) -> dict[str, int | str] | None:
    hour = int(said.get("H") or said.get("I") or 0)
    if said.get("I") and not said.get("H"):
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if (said.get("p") or "")[0] in "pP" else 0)
    minute, second = int(said.get("M") or 0), int(said.get("S") or 0)
    return None if hour > 23 or minute > 59 or second > 59 else {"hour": hour, "minute": minute, "second": second}
