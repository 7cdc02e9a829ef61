"""The sources: how each one does, what to do next, what was refused, and where sources differ.

Pure: what the supervisor says and what the database holds come in, the template's values go out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from pylantir.web.pages.day import version_of
from pylantir.web.pages.steps import next_steps

MOST_ROWS = 100
MOST_NAMES = 5
"""How many troubled sources a sentence names."""
_KINDS = {
    "kept_apart": "kept apart",
    "differs": "sources differ",
    "wish": "wish that comes too late",
    "held": "removal held back",
}


def lay_out_sources(status: Mapping[str, Any] | None, held: Mapping[str, int]) -> dict[str, Any]:
    """Give the template's values: each source with what to do next, problems first; then the other processes.

    Args:
        status: What the supervisor says; None: it does not answer.
        held: Source -> how many removals are held back.
    """
    processes = list((status or {}).get("processes", ()))
    sources = [_source(process, held.get(process["name"], 0)) for process in processes if _is_source(process)]
    others = [_other(process) for process in processes if not _is_source(process)]
    troubled = [one["name"] for one in (*sources, *others) if one["problem"]]
    return {
        "health": (status or {}).get("health", "not answering"),
        "sources": sorted(sources, key=lambda source: not source["problem"]),
        "others": sorted(others, key=lambda other: not other["problem"]),
        "troubled": _some(troubled) if status is not None else ["the supervisor"],
    }


def _some(names: Sequence[str]) -> list[str]:
    left_out = len(names) - MOST_NAMES
    return [*names[:MOST_NAMES], *([f"{left_out} more"] if left_out > 0 else [])]


def lay_out_rejected(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Give the refused records, at most `MOST_ROWS`."""
    return [
        {
            "source": row["data_source"],
            "record": row["record_key"],
            "field": row["field"],
            "reason": row["reason"],
            "since": ago(row["first_seen_at"]),
        }
        for row in islice(rows, MOST_ROWS)
    ]


def lay_out_differences(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Give the open differences, at most `MOST_ROWS`."""
    return [
        {
            "kind": _KINDS.get(row["kind"], row["kind"]),
            "patient_id": row["patient_id"],
            "items": row["items"],
            "sources": ", ".join(row["sources"]),
            "fields": ", ".join(name.replace("_", " ") for name in row["fields"]),
            "what_to_do": row["what_to_do"],
        }
        for row in rows[:MOST_ROWS]
    ]


def _is_source(process: Mapping[str, Any]) -> bool:
    return process.get("role") == "source"


def _source(process: Mapping[str, Any], held: int) -> dict[str, Any]:
    name, problem = str(process["name"]), str(process.get("problem") or process.get("last_error") or "")
    rejected = process.get("rejected") or 0
    shown = {
        "name": name,
        "state": _state_words(process, problem),
        "entries": process.get("entries"),
        "rejected": rejected,
        "held": held,
        "problem": problem,
        "advice": next_steps(process, held),
        "warning": process.get("warning") or "",
    }
    stands_by = str(process.get("state")).startswith("STANDBY (")
    version = version_of((process.get("state"), shown["entries"], rejected, held, problem))
    moments = {
        # Another host that fetches the source does not tell this one each time.
        "last": "" if stands_by else ago(process.get("last_success") or process.get("last_sync")),
        "next": _ahead(process.get("next_sync")),
    }
    return {**shown, **moments, "version": version}


def _other(process: Mapping[str, Any]) -> dict[str, Any]:
    name, problem = str(process["name"]), str(process.get("problem") or process.get("last_error") or "")
    advice = f"It is started again by itself. What it said: `pylantir-supervisor log {name}`" if problem else ""
    return {
        "name": name,
        "state": str(process.get("state")).lower(),
        "restarts": process.get("restarts") or 0,
        "memory_mb": process.get("memory_mb"),
        "problem": problem,
        "warning": process.get("warning") or "",
        "advice": advice if process.get("state") == "BACKOFF" else "",
    }


def _state_words(process: Mapping[str, Any], problem: str) -> str:
    """Say in words how a source does; its process may well run while the source fails."""
    state = str(process.get("state"))
    if state == "BACKOFF":
        return f"starts again in {process.get('retry_in_s') or 0:.0f} s"
    if state == "FATAL":
        return "stopped: the configuration has to be corrected"
    if state.startswith("STANDBY ("):
        return f"stands by; {state[9:-1]} fetches"
    if state != "RUNNING":
        return state.lower()
    if process.get("progress"):
        return "is fetching"
    if problem:
        return "fails"
    if process.get("waits_for_window"):
        return "waits for its hours"
    return "up to date" if process.get("last_sync") else "not fetched yet"


def ago(moment: object) -> str:
    """Write how long ago a moment (ISO 8601) was."""
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
    return f"{max(0.0, seconds):.0f} s"
