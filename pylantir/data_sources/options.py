"""Reads the `config` of a source key by key, and collects all problems.

Lives in the configuration check and in source workers. In: the dictionary as it stands in the file; out: values of
the right type, and `problems` in words. Reads neither files nor the network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

TYPE_CHECKING = False  # `typing` itself would cost every worker a megabyte
if TYPE_CHECKING:
    from typing import TypeVar

    _T = TypeVar("_T")


class Options:
    """Reads one source's `config`, and collects every problem in `problems`."""

    def __init__(self, config: Mapping[str, object], known: Sequence[str]) -> None:
        """Report unknown keys as problems; keys that start with `_` are comments."""
        self._config = config
        self.problems = [_unknown_key(key, known) for key in config if key not in known and not key.startswith("_")]

    def text(self, key: str, default: str = "") -> str:
        """Read a text that is not empty; a number that names something (a site) counts as text."""
        value = self._config.get(key)
        if value is None:
            return default
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if not isinstance(value, str) or not value.strip():
            return self._expected(key, "text", default)
        return value.strip()

    def path(self, key: str) -> str:
        """Read the path of a file, which has to be given."""
        value = self._config.get(key)
        if value is None:
            return self._expected(key, "the path of a file, found none", "")
        is_path = isinstance(value, str) and value and "\0" not in value
        return str(value) if is_path else self._expected(key, "text, the path of a file", "")

    def count(self, key: str) -> int:
        """Read a whole number from 0; 0 if there is none."""
        value = self._config.get(key, 0)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            return self._expected(key, "a whole number from 0", 0)
        return value

    def choice(self, key: str, known: Sequence[str]) -> str:
        """Read one of some words; the first one if there is none."""
        value = self._config.get(key, known[0])
        named = " or ".join(f'"{one}"' for one in known)
        return str(value) if value in known else self._expected(key, named, known[0])

    def dotted(self, key: str, example: str) -> tuple[str, ...]:
        """Read names joined by dots; none if there is no such key."""
        text = self.text(key)
        names = tuple(text.split(".")) if text else ()
        return names if all(names) else self._expected(key, f"names joined by dots, {example}", ())

    def one_or_more(self, key: str) -> tuple[str, ...]:
        """Read a text, or a list of texts."""
        return (self.text(key),) if isinstance(self._config.get(key), str) else self.texts(key)

    def number(self, key: str, default: float, minimum: float) -> float:
        """Read a number that is not smaller than `minimum`."""
        value = self._config.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not minimum <= value < float("inf"):
            return self._expected(key, f"a number >= {minimum:g}", default)
        return value

    def flag(self, key: str, *, default: bool) -> bool:
        """Read true or false."""
        value = self._config.get(key, default)
        return value if isinstance(value, bool) else self._expected(key, "true or false", default)

    def texts(self, key: str) -> tuple[str, ...]:
        """Read a list of texts."""
        value = self._config.get(key, [])
        if not isinstance(value, list) or not all(isinstance(part, str) and part for part in value):
            return self._expected(key, "a list of texts", ())
        return tuple(value)

    def time_zone(self, key: str, default: str = "") -> str:
        """Read the name of a time zone that this machine knows, as "Europe/Berlin"."""
        name = self.text(key, default)
        if name:
            from zoneinfo import ZoneInfo

            try:
                ZoneInfo(name)
            except (ValueError, OSError):
                return self._expected(key, 'a time zone such as "Europe/Berlin"', default)
            except LookupError:
                return self._expected(key, 'a known time zone such as "Europe/Berlin"', default)
        return name

    def _expected(self, key: str, what: str, default: _T) -> _T:
        # The value is not repeated: it could be a secret that stands under the wrong key.
        self.problems.append(f"{key}: expected {what}")
        return default


def near_name(name: str, known: Sequence[str]) -> str:
    """Suggest the known name that was probably meant, as a clause for a message, or ""."""
    from difflib import get_close_matches

    lowered = {candidate.lower(): candidate for candidate in known}
    near = get_close_matches(name.lower(), lowered, n=1)
    return f': did you mean "{lowered[near[0]]}"?' if near else ""


def _unknown_key(key: str, known: Sequence[str]) -> str:
    return f'unknown key "{key}"' + (near_name(key, known) or f"; known are {', '.join(known)}")
