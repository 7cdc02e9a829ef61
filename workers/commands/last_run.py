"""Tells `check` which values were left out in the last fetches.

Lives in the `check` command. In: the settings; out: lines. It reads an existing SQLite file without SQLAlchemy, which
would take longer than the check, and ignores any fault of the file.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from urllib.parse import quote, unquote

from pylantir.settings import Settings

_BUSY_S = 0.2
_SHOWN = 20
_QUERY = "SELECT data_source, field, reason, count FROM source_warnings ORDER BY data_source, count DESC LIMIT ?"


def warnings_of_last_run(settings: Settings) -> list[str]:
    """Say which values were left out when the enabled sources were fetched last."""
    scheme, _, rest = settings.db_url.partition(":///")
    if scheme.partition("+")[0] != "sqlite":
        return []
    uri = f"file:{quote(unquote(rest.partition('?')[0]))}?mode=ro"
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=_BUSY_S)) as connection:
            rows = connection.execute(_QUERY, (_SHOWN,)).fetchall()
    except sqlite3.Error:
        return []
    enabled = {source.name for source in settings.enabled_sources}
    return [
        f"{source}: last fetch: {field}: {count} left out or changed: {reason}"
        for source, field, reason, count in rows
        if source in enabled
    ]
