"""What `pylantir-supervisor status` shows, as one plain value. Lives in the supervisor; made when asked for."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping

import psutil

from workers.supervisor.children import REPORTED_BY_SOURCES, Child
from workers.supervisor.lifecycle import State


class StatusReporter:
    """Describes the processes; keeps psutil's handles so that CPU is measured between two calls."""

    def __init__(self) -> None:
        self._handles: dict[int, psutil.Process] = {}

    def describe(
        self,
        children: Iterable[Child],
        *,
        now: float,
        started_at: float,
        stopping: bool,
        disabled: Collection[str] = (),
    ) -> dict[str, object]:
        """Describe the whole instance.

        Args:
            children: The children.
            now: Monotonic seconds.
            started_at: When the supervisor began, on the same clock.
            stopping: Whether it is about to end.
            disabled: Sources that the configuration has, but not enabled.
        """
        children = list(children)
        processes = [self._describe_child(child, now) for child in children]
        own: dict[str, object] = {
            "name": "supervisor",
            "state": State.STOPPING if stopping else State.RUNNING,
            "pid": os.getpid(),
            "uptime_s": round(now - started_at, 1),
            "restarts": 0,
            **self._measure(os.getpid()),
        }
        alive = {own["pid"], *(process["pid"] for process in processes)}
        self._handles = {pid: handle for pid, handle in self._handles.items() if pid in alive}
        left = next((child.reports.get("left_behind") for child in children if child.role.role == "writer"), None)
        silent = _describe_left_behind(disabled, left if isinstance(left, dict) else {})
        return {"health": _judge(processes, stopping=stopping), "processes": [own, *processes, *silent]}

    def _describe_child(self, child: Child, now: float) -> dict[str, object]:
        life = child.life
        running = life.state in {State.RUNNING, State.STARTING, State.STOPPING}
        description: dict[str, object] = {
            "name": child.role.name,
            "role": child.role.role,
            "state": life.state,
            "ready": life.state is State.RUNNING,
            "pid": child.pid,
            "uptime_s": round(now - life.since, 1) if running else None,
            "restarts": max(0, life.restarts),
            "wanted": "STOPPED" if life.state in {State.STOPPING, State.STOPPED} else "RUNNING",
            "last_exit": child.last_exit,
            "last_words": list(child.last_words),
            "retry_in_s": round(max(0.0, life.retry_at - now), 1) if life.retry_at is not None else None,
            "heartbeat_age_s": round(now - child.last_sign_at, 1) if running else None,
            **self._measure(child.pid),
        }
        if child.role.source is None:
            description["last_error"] = child.reports.get("database")
            if child.role.role == "writer":
                description["queue_depth"] = child.reports.get("queue_depth", 0)
            if child.role.role == "mwl-scp":
                description["refusals"] = child.reports.get("refusals", {})
                description["warning"] = child.reports.get("warning")
        else:
            description |= {key: child.reports.get(key) for key in REPORTED_BY_SOURCES}
            description |= {
                "max_memory_mb": child.role.max_memory_mb,
                "max_restarts": child.role.max_restarts,
                "recycled": child.recycled,
            }
            expected_at = child.expected_at
            is_left_alone = description["waits_for_window"] and expected_at is not None and now < expected_at
            lag_s = None if expected_at is None or is_left_alone else round(max(0.0, now - expected_at), 1)
            description["lag_s"] = lag_s
        if life.state in {State.BACKOFF, State.FATAL} and not description["last_error"]:
            description["last_error"] = f"the process ended with {child.last_exit}; the log says why"
        return description

    def _measure(self, pid: int | None) -> dict[str, object]:
        if pid is None:
            return {"cpu_percent": None, "memory_mb": None}
        try:
            handle = self._handles.get(pid)
            if handle is None:
                handle = self._handles[pid] = psutil.Process(pid)
            return {
                "cpu_percent": handle.cpu_percent(),
                "memory_mb": round(handle.memory_info().rss / 2**20, 1),
            }
        except (psutil.Error, OSError):
            return {"cpu_percent": None, "memory_mb": None}


def _describe_left_behind(disabled: Collection[str], left: Mapping[str, object]) -> list[dict[str, object]]:
    """Describe the sources without a process: those that are disabled, and those that only the database knows."""
    states = dict.fromkeys(left, "NOT CONFIGURED") | dict.fromkeys(disabled, "DISABLED")
    return [
        {
            "name": name, "role": "source", "state": state, "ready": True, "pid": None, "uptime_s": None,
            "restarts": 0, "wanted": "STOPPED", "last_exit": None, "last_words": [], "retry_in_s": None,
            "heartbeat_age_s": None, "cpu_percent": None, "memory_mb": None, "last_error": None,
            "only_items": left.get(name, 0),
        }
        for name, state in sorted(states.items())
    ]  # fmt: skip


def _judge(processes: Iterable[dict[str, object]], *, stopping: bool) -> str:
    """`healthy`, `starting`, `degraded` or `stopping`."""
    if stopping:
        return "stopping"
    health = "healthy"
    for process in processes:
        if process["state"] in {State.BACKOFF, State.FATAL, State.STOPPED} or process["last_error"]:
            return "degraded"
        is_to_come = "last_sync" in process and process["last_sync"] is None and not process["waits_for_window"]
        if process["state"] is not State.RUNNING or is_to_come:
            health = "starting"
    return health
