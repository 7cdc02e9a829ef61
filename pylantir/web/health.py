"""Decides from the output of `pylantir-supervisor status` whether all is well. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def reasons_against(status: Mapping[str, Any] | None) -> list[str]:
    """Why the instance is not ready, `NAME: REASON` each; empty where `status` would end with 0.

    Args:
        status: What the supervisor says; None: it does not answer.
    """
    if status is None:
        return ["supervisor: does not answer"]
    reasons = [f"{process['name']}: {_reason(process)}" for process in status.get("processes", ()) if _reason(process)]
    health = str(status.get("health"))
    if health == "healthy":
        return []
    return reasons or [f"supervisor: {health}"]


def _reason(process: Mapping[str, Any]) -> str:
    if process.get("problem"):
        return str(process["problem"])
    state = str(process.get("state"))
    if state in {"BACKOFF", "FATAL", "STOPPED", "STARTING"}:
        return state.lower()
    if "last_sync" in process and process["last_sync"] is None and not process.get("waits_for_window"):
        return "not fetched yet"
    return ""
