"""Makes the value that `pylantir-supervisor status` shows, and finds the problems in it.

Lives in the supervisor; made on request. Health depends on the work done, not on the states of processes: an overdue
success of a source, an old sign of life and a database that does not answer are problems whatever the states say; a
source that waits for its operation window is not a problem.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence

import psutil

from workers.supervisor.children.child import Child
from workers.supervisor.children.lifecycle import State
from workers.supervisor.children.news import REPORTED_BY_SOURCES

SILENT_AFTER_S = 15.0
"""An older sign of life is a problem: every process gives one every 5 seconds, except inside a plugin."""
OVERDUE_INTERVALS = 3
OVERDUE_AT_LEAST_S = 10.0

_TOLD_BY: Mapping[str, Sequence[tuple[str, object]]] = {
    "writer": (("warning", None), ("audit_lost", 0), ("queue_depth", 0)),
    "mwl-scp": (("warning", None), ("refusals", {}), ("associations", 0), ("database_role", None)),
}
"""Role -> what its process tells besides, and what stands for it before."""

Description = dict[str, object]


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
        troubles: Iterable[str] = (),
        log_dropped: int = 0,
    ) -> Description:
        """Describe the whole instance.

        Args:
            children: The children.
            now: Monotonic seconds.
            started_at: When the supervisor started, on the same clock.
            stopping: Whether the supervisor is ending.
            disabled: Configured sources that are not enabled.
            troubles: Problems of the supervisor itself.
            log_dropped: Lines that the supervisor's own log has dropped.
        """
        children = list(children)
        processes = [self._describe_child(child, now) for child in children]
        own: Description = {
            "name": "supervisor",
            "role": "supervisor",
            "state": State.STOPPING if stopping else State.RUNNING,
            "ready": True,
            "pid": os.getpid(),
            "uptime_s": round(now - started_at, 1),
            "restarts": 0,
            "last_exit": None,
            "heartbeat_age_s": 0.0,
            "last_error": "; ".join(troubles) or None,
            **self._measure(os.getpid()),
        }
        own["problem"] = own["last_error"]
        alive = {own["pid"], *(process["pid"] for process in processes)}
        self._handles = {pid: handle for pid, handle in self._handles.items() if pid in alive}
        told = next((child.news.values for child in children if child.role.role == "writer"), {})
        left, cluster = _mapping(told, "left_behind"), _mapping(told, "cluster")
        silent = _describe_left_behind(disabled, left)
        tell_leases(processes, cluster)
        dropped = [child.news.values.get("log_dropped") for child in children]
        return {
            "health": judge([own, *processes], stopping=stopping),
            "log_dropped": log_dropped + sum(count for count in dropped if isinstance(count, int)),
            "cluster": {name: cluster.get(name) for name in ("host", "hosts", "leases")}
            if cluster.get("hosts")
            else None,
            "processes": [own, *processes, *silent],
        }

    def _describe_child(self, child: Child, now: float) -> Description:
        life, standby = child.life, child.news.values.get("standby")
        running = life.state in {State.RUNNING, State.STARTING, State.STOPPING}
        description: Description = {
            "name": child.role.name,
            "role": child.role.role,
            "state": State.STARTING if life.is_to_come else life.state,
            "ready": life.state is State.RUNNING,
            "pid": child.pid,
            "uptime_s": round(now - life.since, 1) if running else None,
            "restarts": max(0, life.restarts),
            "wanted": "STOPPED" if life.state in {State.STOPPING, State.STOPPED} and not life.is_to_come else "RUNNING",
            "last_exit": child.last_exit,
            "last_words": list(child.last_words),
            "retry_in_s": round(max(0.0, life.retry_at - now), 1) if life.retry_at is not None else None,
            "heartbeat_age_s": round(now - child.news.last_sign_at, 1) if running else None,
            **self._measure(child.pid),
        }
        if child.role.source is None:
            description |= _describe_service(child)
        else:
            description |= _describe_source(child, now)
            if life.state is State.RUNNING and isinstance(standby, str):
                description["state"] = f"STANDBY ({standby})"
        if child.start_error and life.state is State.BACKOFF:
            description["last_error"] = f"cannot be started: {child.start_error}"
        elif life.state in {State.BACKOFF, State.FATAL} and not description["last_error"]:
            description["last_error"] = f"the process ended with {child.last_exit}; the log says why"
        if "tally" in child.news.values:
            description["tally"] = child.news.values["tally"]
        description["problem"] = find_problem(description)
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
    """Describe the sources without a process: disabled ones, and those that only the database knows."""
    states = dict.fromkeys(left, "NOT CONFIGURED") | dict.fromkeys(disabled, "DISABLED")
    return [
        {
            "name": name, "role": "source", "state": state, "ready": True, "pid": None, "uptime_s": None,
            "restarts": 0, "wanted": "STOPPED", "last_exit": None, "last_words": [], "retry_in_s": None,
            "heartbeat_age_s": None, "cpu_percent": None, "memory_mb": None, "last_error": None, "problem": None,
            "only_items": left.get(name, 0),
        }
        for name, state in sorted(states.items())
    ]  # fmt: skip


def _mapping(told: Mapping[str, object], name: str) -> Mapping[str, object]:
    return value if isinstance(value := told.get(name), dict) else {}


def tell_leases(processes: Iterable[Description], cluster: Mapping[str, object]) -> None:
    """Add to each source which host fetches it, and warnings about another configuration, rules or clock there."""
    leases, differs = _mapping(cluster, "leases"), _mapping(cluster, "differs")
    for process in processes:
        name = str(process["name"])
        if process["role"] == "source":
            process["lease_host"] = leases.get(name)
            if holder := differs.get(name):
                process["warning"] = f"its configuration differs from that on {holder}, which fetches it"
        elif process["role"] == "writer":
            others = cluster.get("other_rules")
            names = ", ".join(others) if isinstance(others, list) else ""
            rules = f"`deduplication` differs from that on {names}; give all hosts the same" if names else None
            told = [process.get("warning"), cluster.get("clock"), rules, _describe_abandoned(cluster)]
            process["warning"] = "; ".join(one for one in told if isinstance(one, str)) or None


def _describe_abandoned(cluster: Mapping[str, object]) -> str | None:
    """Tell which sources nobody fetches because their hosts do not run."""
    abandoned = _mapping(cluster, "abandoned")
    away = sorted({host for hosts in abandoned.values() if isinstance(hosts, list) for host in hosts})
    if not abandoned:
        return None
    return (
        f"nobody fetches {', '.join(abandoned)}: no host that has it runs ({', '.join(away)}); start it, or, if it is "
        "gone for good, run: pylantir forget-host HOST"
    )


def _describe_service(child: Child) -> Description:
    told = child.news.values
    description: Description = {"last_error": told.get("database"), "access_lost": told.get("access_lost", 0)}
    return description | {name: told.get(name, default) for name, default in _TOLD_BY.get(child.role.role, ())}


def _describe_source(child: Child, now: float) -> Description:
    description: Description = {key: child.news.values.get(key) for key in REPORTED_BY_SOURCES}
    expected_at, interval_s = child.news.expected_at, child.role.sync_interval_s
    is_left_alone = bool(description["waits_for_window"]) and expected_at is not None and now < expected_at
    is_left_alone |= isinstance(description["standby"], str)
    lag_s = None if expected_at is None or is_left_alone else round(max(0.0, now - expected_at), 1)
    # The last success was due an interval before the next one.
    last_due = child.news.wanted_since if expected_at is None else expected_at - interval_s
    return description | {
        "max_memory_mb": child.role.max_memory_mb,
        "max_restarts": child.role.max_restarts,
        "recycled": child.recycled,
        "lag_s": lag_s,
        "overdue_s": None if is_left_alone else overdue_s(now - last_due, interval_s),
    }


def overdue_s(since_success_s: float, interval_s: float) -> float | None:
    """Return how long a source has had no success if its success is overdue; else None."""
    is_overdue = since_success_s > max(OVERDUE_INTERVALS * interval_s, OVERDUE_AT_LEAST_S)
    return round(since_success_s, 1) if is_overdue else None


def find_problem(process: Mapping[str, object]) -> str | None:
    """Say in one line what is wrong with a process, from its description; None if nothing is."""
    error, age_s, overdue = process["last_error"], process["heartbeat_age_s"], process.get("overdue_s")
    if error:
        return str(error)
    if process["state"] in {State.BACKOFF, State.FATAL, State.STOPPED}:
        return f"{process['state']}; it ended with {process['last_exit']}"
    # While a plugin's code runs, its worker cannot give signs of life; `fetch_timeout` limits that time.
    is_silent = isinstance(age_s, float) and age_s > SILENT_AFTER_S and not process.get("progress")
    if is_silent and (process["state"] is State.RUNNING or stands_by(process)):
        return f"no sign of life for {age_s:.0f} s"
    if isinstance(overdue, float):
        return f"no successful fetch for {overdue:.0f} s"
    return None


def stands_by(process: Mapping[str, object]) -> bool:
    """Whether a process waits, healthy, because another host does its work."""
    return str(process["state"]).startswith("STANDBY")


def judge(processes: Iterable[Mapping[str, object]], *, stopping: bool) -> str:
    """Return the overall state: `healthy`, `starting`, `degraded` or `stopping`."""
    if stopping:
        return "stopping"
    health = "healthy"
    for process in processes:
        if process["problem"]:
            return "degraded"
        if stands_by(process):
            continue
        is_to_come = "last_sync" in process and process["last_sync"] is None and not process["waits_for_window"]
        if process["state"] is not State.RUNNING or is_to_come:
            health = "starting"
    return health
