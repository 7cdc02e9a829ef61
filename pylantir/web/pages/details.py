"""One item, the sources, and the scanners: what the other pages show.

Pure but for what it asks of its ports.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pylantir.entry import RECORD_ID_FIELD, WORKLIST_FIELDS
from pylantir.web.pages.day import show_item
from pylantir.web.ports import Item, Ports

_UNTOLD = {"known_conflicts", "updated_at", "created_at"}


def lay_out_item(item: Item, ports: Ports) -> dict[str, Any]:
    """Give the template's values: the item, what each source says about each field, and what has happened.

    Raises:
        StoreError: The database cannot be read just now.
    """
    number = int(str(item["id"]))
    statements = ports.find_statements(number)
    rows = []
    for name in (*WORKLIST_FIELDS, RECORD_ID_FIELD):
        value, said = item.get(name) or "", [statement["fields"].get(name) or "" for statement in statements]
        if value or any(said):
            cells = [{"value": one, "differs": bool(one) and one != value} for one in said]
            rows.append({"field": name.replace("_", " "), "value": value, "said": cells})
    return {
        "item": show_item(item),
        "sources": [statement["data_source"] for statement in statements],
        "rows": rows,
        "history": [_event(row) for row in ports.find_history(number)],
    }


def lay_out_sources(status: Mapping[str, Any] | None) -> dict[str, Any]:
    """Give the template's values: each source with what to do next, problems first; then the other processes."""
    processes = list((status or {}).get("processes", ()))
    sources = [_source(process) for process in processes if process.get("role") == "source"]
    return {
        "health": (status or {}).get("health", "not answering"),
        "sources": sorted(sources, key=lambda source: not source["problem"]),
        "others": [process for process in processes if process.get("role") != "source"],
    }


def lay_out_scanners(queries: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Give the template's values: a row per scanner that has asked since the server started."""
    return [
        {
            "aet": aet,
            "address": query.get("address") or "",
            "when": _ago(query.get("at")),
            "answered": query.get("matches"),
            "status": "no end" if query.get("status") is None else f"0x{query['status']:04X}",
        }
        for aet, query in sorted(queries.items())
    ]


def _source(process: Mapping[str, Any]) -> dict[str, Any]:
    name, problem = str(process["name"]), str(process.get("last_error") or "")
    rejected = process.get("rejected") or 0
    return {
        "name": name,
        "state": process.get("state"),
        "last": _ago(process.get("last_success") or process.get("last_sync")),
        "next": _ahead(process.get("next_sync")),
        "entries": process.get("entries"),
        "rejected": rejected,
        "problem": problem,
        "advice": _advice(name, str(process.get("state")), problem, rejected),
    }


def _advice(name: str, state: str, problem: str, rejected: int) -> str:
    """Say what to do next."""
    if problem.startswith("held back"):
        return f"See which items would go: pylantir accept {name} --show. If that is right: pylantir accept {name}."
    if state == "FATAL":
        return "Correct the configuration, then: pylantir-supervisor reload."
    if state == "BACKOFF":
        return f"It is started again by itself. What it said: pylantir-supervisor log {name}."
    if problem:
        return f"It is tried again by itself. To try at once: pylantir-supervisor sync {name}."
    if rejected:
        return f"See which records were refused, and why: pylantir rejects --source {name}. Correct them in the source."
    return ""


def _event(row: Mapping[str, Any]) -> dict[str, Any]:
    changes = row.get("changes")
    parsed = json.loads(changes) if isinstance(changes, str) else changes or {}
    lines = [f"{name.replace('_', ' ')}: {_change(change)}" for name, change in parsed.items() if name not in _UNTOLD]
    return {"at": str(row["at"])[:19].replace("T", " "), "actor": row["actor"], "action": row["action"], "lines": lines}


def _change(change: object) -> str:
    if isinstance(change, list) and len(change) == 2:
        before, after = ("-" if one in (None, "") else one for one in change)
        return f"{before} → {after}"
    if isinstance(change, Mapping) and "winner" in change:
        return f"{change.get('winner')} says {change.get('value')}, {change.get('loser')} says {change.get('lost')}"
    return str(change)


def _ago(moment: object) -> str:
    if not isinstance(moment, str):
        return "never"
    return f"{_duration((datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds())} ago"


def _ahead(moment: object) -> str:
    if not isinstance(moment, str):
        return ""
    return f"in {_duration(max(0.0, (datetime.fromisoformat(moment) - datetime.now(UTC)).total_seconds()))}"


def _duration(seconds: float) -> str:
    for length, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
