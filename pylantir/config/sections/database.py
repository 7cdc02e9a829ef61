"""Finds the database's SQLAlchemy URL in a configuration.

Lives in the configuration check; no file is touched, and SQLAlchemy is imported only for the URL of a server.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from pylantir.config.environment import check_variable
from pylantir.config.locate import resolve_path
from pylantir.config.messages import Finding
from pylantir.config.sections.server_url import find_fault

URL_FORM = r"^[A-Za-z0-9_]+(\+[A-Za-z0-9_]+)?://"
EXPECTED_URL = 'a SQLAlchemy URL such as "postgresql+psycopg://user@host/name"'
_KEYS = ("db_path", "db_url", "db_url_env")


class _WrongDatabase(Exception):
    """Why there is no URL."""


def database_url(
    document: Mapping[str, object], base_dir: Path, environment: Mapping[str, str]
) -> tuple[str, list[Finding]]:
    """Find the database's URL in a document, or say what is wrong.

    Args:
        document: The configuration; values of a wrong form are left to the models.
        base_dir: Where relative paths start.
        environment: For `db_url_env` and `$STATE_DIRECTORY`.

    Returns:
        The URL, which may hold a password; empty if there are findings or the form is wrong.
    """
    given = [key for key in _KEYS if document.get(key) is not None]
    if len(given) > 1:
        return "", [Finding(place=(given[1],), text=f"{' and '.join(given)} exclude each other: keep one")]
    key, value = (given[0], document[given[0]]) if given else ("db_path", _default_path(environment))
    if not isinstance(value, str) or (key == "db_url" and not re.match(URL_FORM, value)):
        return "", []
    try:
        if key == "db_path":
            # SQLAlchemy decodes the path of a URL and cuts it at a question mark.
            quoted = str(resolve_path(value, base_dir)).replace("%", "%25").replace("?", "%3F")
            return f"sqlite:///{quoted}", []
        return _checked_url(value if key == "db_url" else _read_variable(value, environment), base_dir), []
    except _WrongDatabase as error:
        return "", [Finding(place=(key,), text=str(error))]


def read_url(document: Mapping[str, object], db_url: str) -> tuple[str | None, list[Finding]]:
    """Find the URL that the database may be read from, or say what is wrong.

    Args:
        document: The configuration.
        db_url: The URL of the database itself; empty if it is wrong.
    """
    value = document.get("db_read_url")
    if not isinstance(value, str) or not re.match(URL_FORM, value):
        return None, []
    fault = find_fault(value)
    if not fault and db_url.startswith("sqlite"):
        fault = "db_url is needed: a SQLite file has no standby"
    return (None, [Finding(place=("db_read_url",), text=fault)]) if fault else (value, [])


def _default_path(environment: Mapping[str, str]) -> str:
    return str(Path(environment.get("STATE_DIRECTORY", "").partition(":")[0]) / "worklist.db")


def _read_variable(name: str, environment: Mapping[str, str]) -> str:
    problem = check_variable(name, environment)
    if problem:
        raise _WrongDatabase(problem)
    # A secret that comes from a file often ends with a line break.
    url = environment[name].strip()
    if not re.match(URL_FORM, url):
        raise _WrongDatabase(f"expected {EXPECTED_URL} in the variable, got a text that is not shown here")
    return url


def _checked_url(url: str, base_dir: Path) -> str:
    """Return the URL with a SQLite file's path made absolute."""
    scheme, _, rest = url.partition("://")
    dialect, _, driver = scheme.partition("+")
    if dialect != "sqlite":
        fault = find_fault(url)
        if fault:
            raise _WrongDatabase(fault)
        return url
    if driver not in {"", "pysqlite"}:
        raise _WrongDatabase(f'the driver "{driver}" is not supported: write "sqlite:///PATH", or use `db_path`')
    path, question_mark, options = rest.removeprefix("/").partition("?")
    if path in {"", ":memory:"} or path.startswith("file:"):
        raise _WrongDatabase("expected a SQLite file, since several processes share the database")
    return f"{scheme}:///{resolve_path(path, base_dir)}{question_mark}{options}"
