"""Checks the URL of a PostgreSQL server, as far as that goes without asking it.

Lives in the configuration check. No part of a URL is ever shown, because any part may be a piece of a password that was
not written as a URL demands.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

from pylantir.config.messages import suggestion

DRIVER = "psycopg"
_ESCAPED = 'in a user name or password, write "@" as %40, ":" as %3A, "/" as %2F, "?" as %3F, "#" as %23'

_SEVERAL = 'several hosts are written "postgresql+psycopg://USER@/NAME?host=HOST1:5432&host=HOST2:5432"'
_IPV6 = (
    'behind the "?", an IPv6 address is written "host=::1&port=5432", '
    'among several hosts "host=::1,HOST2&port=5432,5433"'
)


def find_fault(url: str) -> str | None:
    """Return what is wrong with a URL that names no SQLite file; None if it can be used.

    Args:
        url: As the configuration has it.
    """
    scheme, _, rest = url.partition("://")
    return _check_scheme(scheme) or _check_form(rest) or _check_options(url)


def _check_scheme(scheme: str) -> str | None:
    dialect, _, driver = scheme.partition("+")
    if dialect not in {"postgresql", "postgres"} or (dialect == "postgres" and driver):
        return f'the database "{dialect}" is not supported: use SQLite (`db_path`) or "postgresql+psycopg://…"'
    if driver not in {"", DRIVER}:
        return f'the driver "{driver}" is not supported: write "postgresql+psycopg://…"'
    return None


def _check_form(rest: str) -> str | None:
    place, _, options = rest.partition("?")
    if place.count("@") > 1 or "@" in options:
        return f'there is an "@" that is no separator; {_ESCAPED}'
    if "#" in rest:
        return f'there is a "#", which URLs do not have here; {_ESCAPED}'
    address = place.rpartition("@")[2].partition("/")[0]
    if "," in address and ":" in address.partition(",")[0]:
        return _SEVERAL
    if address.lower().startswith("%2f"):
        return 'the folder of a socket is written "postgresql+psycopg://USER@/NAME?host=/FOLDER"'
    ports = [address.rpartition("]")[2].partition(":")[2]] if ":" in address.rpartition("]")[2] else []
    hosts: list[str] = []
    for name, _, value in (option.partition("=") for option in options.split("&") if option):
        if not value:
            # SQLAlchemy would leave it out without a word, and `sslmode` with it.
            return 'a connection option has no value: write "NAME=VALUE" behind the "?"'
        if name == "port":
            ports += value.split(",")
        elif name == "host":
            hosts.append(unquote(value))
    if fault := _check_hosts(hosts):
        return fault
    ports += [host.partition(":")[2] for host in hosts if not host.startswith("/") and host.count(":") == 1]
    if not all(re.fullmatch(r"[0-9]{1,5}", port) and 1 <= int(port) <= 65535 for port in ports):
        return f"the port is no number from 1 to 65535 (it is not shown here, it may be part of a password); {_ESCAPED}"
    return None


def _check_hosts(hosts: Sequence[str]) -> str | None:
    """Check the values of the options `host`: whatever has another form SQLAlchemy takes for a strange name."""
    for listed in hosts:
        for one in (one for one in listed.split(",") if ":" in one and not one.startswith("/")):
            is_ipv6 = one.count(":") > 1
            if "[" in one or (is_ipv6 and len(hosts) > 1):
                return _IPV6
            if not is_ipv6 and "," in listed:
                return _SEVERAL
    return None


def _check_options(url: str) -> str | None:
    try:
        import psycopg
        from psycopg.conninfo import make_conninfo
    except ImportError:
        return 'the driver psycopg 3 is missing: pip install "pylantir[postgresql]"'
    from sqlalchemy import make_url
    from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
    from sqlalchemy.exc import ArgumentError

    dialect: Any = PGDialect_psycopg
    try:
        _, arguments = dialect().create_connect_args(make_url(url))
    except (ArgumentError, ValueError, AttributeError, TypeError):
        return f'it cannot be read: expected "postgresql+psycopg://USER:PASSWORD@HOST:PORT/NAME"; {_ESCAPED}'
    own = {option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults()}
    unknown = sorted(arguments.keys() - own)
    if unknown:
        return f'unknown connection option "{unknown[0]}"{suggestion(unknown[0], own)}'
    for name, values in _VALUES.items():
        if arguments.get(name, values[0]) not in values:
            return f"{name}: expected one of {', '.join(values)}"
    for name in _NUMBERS & arguments.keys():
        if not re.fullmatch(r"-?[0-9]{1,9}", str(arguments[name]).strip()):
            return f"{name}: expected a whole number"
    try:
        make_conninfo("", **arguments)
    except psycopg.Error:
        return f"its options cannot be read by PostgreSQL's library; {_ESCAPED}"
    return None


_VALUES = {
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "gssencmode": ("disable", "prefer", "require"),
    "channel_binding": ("disable", "prefer", "require"),
    "target_session_attrs": ("any", "read-write", "read-only", "primary", "standby", "prefer-standby"),
}
_NUMBERS = {
    "connect_timeout", "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout",
}  # fmt: skip
