"""Who may ask, and what any answer says to a browser about itself.

Lives in the web process. Headers come in; a user's name, or a refusal, goes out. Passwords and tokens come from the
configuration, sessions live in memory: after a restart people log in again.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pylantir.settings import HttpSettings
from pylantir.web.passwords import is_password

COOKIE = "pylantir_session"
NOBODY = "web"
"""The user where no login is configured."""
SESSION_S = 12 * 3600.0
MAX_SESSIONS = 1000
TRIES = 5
"""How many wrong passwords of one user in a row are answered at once."""
LOCKED_S = 30.0
"""How long the user's logins are refused after that; each further wrong password restarts the wait."""
MAX_REMEMBERED_USERS = 1000
_LOOPBACK_NAMES = {"localhost", "127.0.0.1", "[::1]"}

SECURITY_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True, slots=True)
class Locked:
    """The user has tried too often; `retry_after_s` is when to try again."""

    retry_after_s: int


class Gate:
    """Passwords, tokens and sessions. For any thread.

    Args:
        settings: Users and tokens.
        clock: Monotonic seconds.
    """

    def __init__(self, settings: HttpSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._sessions: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._lock = threading.Lock()
        # A client that guesses user names has to wait as long as one that guesses passwords.
        self._nobodys_password = next(iter(settings.users.values()), secrets.token_urlsafe())

    def log_in(self, user: str, password: str) -> str | Locked | None:
        """Begin a session: its key for the cookie, or why there is none (None: not the right user and password)."""
        verdict = self._check(user, password)
        if verdict is not True:
            return verdict or None
        key = secrets.token_urlsafe(32)
        with self._lock:
            self._sessions[key] = (user, self._clock() + SESSION_S)
            while len(self._sessions) > MAX_SESSIONS:
                self._sessions.popitem(last=False)
        return key

    def log_out(self, key: str) -> None:
        """End a session."""
        with self._lock:
            self._sessions.pop(key, None)

    def user_of_session(self, key: str) -> str | None:
        """Whose session it is, if it still is one."""
        with self._lock:
            user, expires_at = self._sessions.get(key, ("", 0.0))
        return user if user and self._clock() < expires_at else None

    def user_of_header(self, authorization: str) -> str | Locked | None:
        """The user that a program names by Basic or Bearer, if its password or token is right."""
        scheme, _, value = authorization.partition(" ")
        if scheme.lower() == "bearer":
            given = value.strip().encode("utf-8", "replace")
            matches = [hmac.compare_digest(given, token.encode()) for token in self._settings.tokens]
            return "token" if any(matches) else None
        if scheme.lower() != "basic":
            return None
        try:
            user, colon, password = base64.b64decode(value.strip(), validate=True).decode("utf-8").partition(":")
        except (binascii.Error, ValueError):
            return None
        verdict = self._check(user, password) if colon else False
        return user if verdict is True else verdict or None

    def _check(self, user: str, password: str) -> bool | Locked:
        now = self._clock()
        with self._lock:
            failures, locked_until = self._failures.get(user, (0, 0.0))
        if failures >= TRIES and now < locked_until:
            return Locked(max(1, round(locked_until - now)))
        stored = self._settings.users.get(user)
        is_right = is_password(password, self._nobodys_password if stored is None else stored) and stored is not None
        with self._lock:
            self._failures.pop(user, None)
            if not is_right:
                self._failures[user] = (failures + 1, now + LOCKED_S)
                while len(self._failures) > MAX_REMEMBERED_USERS:
                    self._failures.popitem(last=False)
        return is_right


def is_own_host(host: str) -> bool:
    """Whether a Host header names this machine itself: a page elsewhere must not reach us through a name of its own."""
    name = host.rpartition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]
    return name.lower() in _LOOPBACK_NAMES


def is_same_origin(headers: Mapping[str, str]) -> bool:
    """Whether a form was sent from one of our own pages, as far as the browser says."""
    if "sec-fetch-site" in headers:
        # Set by the browser itself; the host's name may have been changed by a proxy on the way.
        return headers["sec-fetch-site"] == "same-origin"
    origin = headers.get("origin")
    return origin is None or origin.partition("://")[2] == headers.get("host", "")
