"""Makes text safe to print: removes secrets in any form, and characters that control a terminal. Pure.

Every process uses it for its log and for a plugin's output, and so do the commands. A process gets the secrets that it
may meet; most processes get none, and then striking them out costs nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping

SHORTEST_SECRET = 4
"""A shorter value does not count as a secret: striking it out would make numbers and words unreadable."""
STRUCK_OUT = "***"
_SECRET_KEY = re.compile(r"passw|secret|token|api[\s_-]?key|authorization|credential", re.IGNORECASE)
_URL_PASSWORD = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#\s]*?:([^/?#\s]*)@")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def make_redactor(values: Iterable[str]) -> Callable[[str], str]:
    """Make a function that strikes secrets out of a text.

    Args:
        values: The secrets. Of a URL only its password counts, and values shorter than `SHORTEST_SECRET` do not.

    Returns:
        The function. It recognises a secret as it is, as Python's `repr` and JSON write it, in a URL, a form or HTML,
        in base64 at any place of a longer text, and each line of a secret with several lines.
    """
    secrets = {secret for value in values for secret in _secrets_in(value) if len(secret) >= SHORTEST_SECRET}
    if not secrets:
        return str
    patterns = {pattern for secret in secrets for pattern in _patterns(secret)}
    # The longest first: a secret may be the beginning of another one.
    pattern = re.compile("|".join(sorted(patterns, key=len, reverse=True)))
    return lambda text: pattern.sub(STRUCK_OUT, text)


def printable(value: object) -> str:
    """Write a value on one line; escape characters that control a terminal, are invisible or change the direction."""
    text = "" if value is None else str(value)
    return text if text.isprintable() else "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def inline_secrets(config: object) -> Iterator[str]:
    """Find the secrets in a source's `config` itself.

    Yields:
        Text under keys that speak of a password, secret, token, API key or authorization, and URLs with a password; in
        nested objects and lists, too. The name of a variable (`…_env`) is no secret.
    """
    if isinstance(config, Mapping):
        for key, value in config.items():
            if str(key).endswith("_env"):
                continue
            if _SECRET_KEY.search(str(key)):
                yield from _texts(value)
            else:
                yield from inline_secrets(value)
    elif isinstance(config, list | tuple):
        for value in config:
            yield from inline_secrets(value)
    elif isinstance(config, str) and _URL_PASSWORD.match(config):
        yield config


def _texts(value: object) -> Iterator[str]:
    """Yield every text below a key that announces a secret, except names of variables."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, part in value.items():
            # {"env": "TOKEN", "prefix": "Bearer "} names a variable.
            if key not in {"env", "prefix"} and not str(key).endswith("_env"):
                yield from _texts(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _texts(part)


def _secrets_in(value: str) -> Iterator[str]:
    """Yield the value, or if it is a URL the password in it, both as written and decoded."""
    if not _URL.match(value):
        yield value
    elif match := _URL_PASSWORD.match(value):
        from urllib.parse import unquote

        yield from (match[1], unquote(match[1]))


def _patterns(secret: str) -> Iterator[str]:
    """Yield regular expressions for a secret, and for each of its lines, in every form."""
    for text in (secret, *(line.strip() for line in secret.splitlines())):
        if len(text) >= SHORTEST_SECRET:
            yield "".join(map(_in_every_form, text))
            yield from map(re.escape, _in_base64(text.encode("utf-8", "surrogatepass")))


def _in_every_form(char: str) -> str:
    """Match a character as it is, or escaped by Python, JSON, a URL or HTML, once or twice."""
    code, data = ord(char), char.encode("utf-8", "surrogatepass")
    itself = re.escape(char)
    if char in "'\"\\/":
        itself = rf"\\*{itself}"
    escaped = [
        *(rf"\\+{form}" for form in (f"x{code:02x}", f"u{code:04x}", f"U{code:08x}")),
        "".join(rf"\\+x{byte:02x}" for byte in data),
        "".join(rf"%(?:25)*{byte:02x}" for byte in data),
        f"&#{code};", f"&#x{code:x};", *_OTHERWISE.get(char, ()),
    ]  # fmt: skip
    if code > 0xFFFF:
        escaped.append("".join(rf"\\+u{half:04x}" for half in (0xD7C0 + (code >> 10), 0xDC00 + (code & 0x3FF))))
    return f"(?:{itself}|(?i:{'|'.join(escaped)}))"


_OTHERWISE: Mapping[str, tuple[str, ...]] = {
    " ": (r"\+",), "&": ("&amp;",), "<": ("&lt;",), ">": ("&gt;",), '"': ("&quot;",),
    "\n": (r"\\+n",), "\r": (r"\\+r",), "\t": (r"\\+t",), "\b": (r"\\+b",), "\f": (r"\\+f",),
}  # fmt: skip


def _in_base64(data: bytes) -> Iterator[str]:
    """Yield base64 forms of bytes within longer ones: only the characters that depend on these bytes alone."""
    from base64 import b64encode

    for before in range(3):
        first, last = -(-8 * before // 6), 8 * (before + len(data)) // 6
        encoded = b64encode(bytes(before) + data + bytes(3)).decode("ascii")[first:last]
        yield from (encoded, encoded.replace("+", "-").replace("/", "_"))
