"""Comparing a password with what the configuration's variable holds: the password itself, or its scrypt hash.

`python -m pylantir.web.passwords` reads a password and prints the hash to put into the variable.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os

_MARK = "scrypt"
_COST, _BLOCK, _PARALLEL = 2**14, 8, 1
_MOST_MEMORY = 128 * 1024 * 1024


def hash_password(password: str) -> str:
    """Hash a password: `scrypt$COST$BLOCK$PARALLEL$SALT$HASH`, the last two in base64."""
    salt = os.urandom(16)
    hashed = _scrypt(password, salt, _COST, _BLOCK, _PARALLEL)
    parts = (_MARK, _COST, _BLOCK, _PARALLEL, *(base64.b64encode(part).decode() for part in (salt, hashed)))
    return "$".join(map(str, parts))


def is_password(given: str, stored: str) -> bool:
    """Whether what somebody typed is the password; takes as long either way."""
    if stored.startswith(f"{_MARK}$"):
        try:
            _, cost, block, parallel, salt, hashed = stored.split("$")
            made = _scrypt(given, base64.b64decode(salt), int(cost), int(block), int(parallel))
            return hmac.compare_digest(made, base64.b64decode(hashed))
        except (ValueError, OverflowError, MemoryError):
            return False
    return hmac.compare_digest(given.encode("utf-8", "replace"), stored.encode("utf-8", "replace"))


def _scrypt(password: str, salt: bytes, cost: int, block: int, parallel: int) -> bytes:
    data = password.encode("utf-8", "replace")
    return hashlib.scrypt(data, salt=salt, n=cost, r=block, p=parallel, maxmem=_MOST_MEMORY)


if __name__ == "__main__":
    from getpass import getpass

    print(hash_password(getpass("Password: ")))
