"""The metrics of the whole instance in Prometheus's text form. No patient data.

Pure: what the supervisor says and what the database counts come in. Counters and histograms are those that each process
keeps (`pylantir.ipc.tally`); they begin anew with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from pylantir.ipc.tally import BOUNDS_S, counts_in, histograms_in

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Conflicts = tuple[int, Mapping[str, int]]
"""How many open differences there are, and of these the held-back removals by source."""

_Families = tuple[tuple[str, str, tuple[str, ...]], ...]
_COUNTERS: _Families = (
    ("pylantir_source_cycles", "Cycles of a source by result (ok, failed).", ("source", "result")),
    ("pylantir_find", "Worklist queries (C-FIND) by AE title and final status.", ("aet", "status")),
    ("pylantir_mpps", "Reports of scanners (MPPS) by AE title, operation and status.", ("aet", "operation", "status")),
)
_HISTOGRAMS: _Families = (
    ("pylantir_source_cycle_duration_seconds", "How long a source's cycles took.", ("source",)),
    ("pylantir_find_duration_seconds", "How long answering worklist queries took.", ("aet",)),
    ("pylantir_mpps_duration_seconds", "How long answering reports took.", ("aet",)),
)
_SOURCE_GAUGES = (
    ("pylantir_source_entries", "Records that a source gives now.", "entries"),
    ("pylantir_source_rejected", "Records that were refused in the last cycle.", "rejected"),
    ("pylantir_source_lag_seconds", "How much later than its timetable a source is.", "lag_s"),
)
_WITHOUT_PROCESS = ("DISABLED", "NOT CONFIGURED")


def write_metrics(status: Mapping[str, Any] | None, conflicts: Conflicts | None, host: str) -> bytes:
    """Write all metrics.

    Args:
        status: What the supervisor says; None: it does not answer, and the only metric is the one that says so.
        conflicts: What the database counts; None: it cannot be read.
        host: This machine's name, for the sources that it fetches.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(status, conflicts, host))
    written: bytes = generate_latest(registry)
    return written


class _Collector:
    """What prometheus_client asks for the families."""

    def __init__(self, status: Mapping[str, Any] | None, conflicts: Conflicts | None, host: str) -> None:
        self._status = status
        self._conflicts = conflicts
        self._host = host

    def collect(self) -> Iterator[Metric]:
        """Give every family."""
        up = GaugeMetricFamily("pylantir_process_up", "1 while the process runs.", labels=["process"])
        if self._status is None:
            up.add_metric(["supervisor"], 0.0)
            yield up
            return
        processes = [one for one in self._status.get("processes", ()) if one.get("state") not in _WITHOUT_PROCESS]
        restarts = CounterMetricFamily("pylantir_process_restarts", "Restarts since the start.", labels=["process"])
        for process in processes:
            up.add_metric(
                [process["name"]], float(process.get("state") == "RUNNING" or bool(_holder_elsewhere(process)))
            )
            restarts.add_metric([process["name"]], float(process.get("restarts") or 0))
        yield from (up, restarts)
        sources = [process for process in processes if process.get("role") == "source"]
        yield from _sources(sources, self._host)
        yield from _conflicts(sources, self._conflicts)
        works = self._conflicts is not None
        yield from _services({process["name"]: process for process in processes}, works=works)
        yield from _tallies([process.get("tally") or {} for process in processes])


def _holder_elsewhere(source: Mapping[str, Any]) -> str:
    """Return the host that fetches a source instead of this one: the state is `STANDBY (HOST)`."""
    state = str(source.get("state"))
    return state.removeprefix("STANDBY (").removesuffix(")") if state.startswith("STANDBY (") else ""


def _sources(sources: Iterable[Mapping[str, Any]], host: str) -> Iterator[Metric]:
    for name, text, key in _SOURCE_GAUGES:
        family = GaugeMetricFamily(name, text, labels=["source"])
        for source in sources:
            if isinstance(source.get(key), int | float):
                family.add_metric([source["name"]], float(source[key]))
        yield family
    holders = GaugeMetricFamily("pylantir_lease_holder", "1 for the host that fetches.", labels=["source", "host"])
    for source in sources:
        here = host if source.get("state") == "RUNNING" else ""
        holder = source.get("lease_host") or _holder_elsewhere(source) or here
        if holder:
            holders.add_metric([source["name"], holder], 1.0)
    yield holders


def _conflicts(sources: Iterable[Mapping[str, Any]], conflicts: Conflicts | None) -> Iterator[Metric]:
    text = "Open differences between sources, held-back removals included (`pylantir conflicts`)."
    differences = GaugeMetricFamily("pylantir_conflicts", text)
    held = GaugeMetricFamily("pylantir_source_held", "Items whose removal is held back.", labels=["source"])
    if conflicts is not None:
        count, held_of = conflicts
        differences.add_metric([], count)
        for name in {source["name"]: None for source in sources} | dict.fromkeys(held_of):
            held.add_metric([name], held_of.get(name, 0))
    yield from (differences, held)


def _services(processes: Mapping[str, Mapping[str, Any]], *, works: bool) -> Iterator[Metric]:
    writer, server = processes.get("writer", {}), processes.get("mwl-scp", {})
    yield GaugeMetricFamily("pylantir_queue_depth", "Frames that wait for the writer.", writer.get("queue_depth") or 0)
    works = works and not writer.get("last_error") and not server.get("last_error")
    yield GaugeMetricFamily("pylantir_database_up", "1 while the database can be read and written.", float(works))
    yield GaugeMetricFamily("pylantir_associations", "Associations just now.", server.get("associations") or 0)
    refusals = CounterMetricFamily("pylantir_refusals", "Refused or aborted, by reason.", labels=["reason"])
    for reason, count in (server.get("refusals") or {}).items():
        refusals.add_metric([reason], count)
    yield refusals
    yield from _lost(processes.values())


def _lost(processes: Iterable[Mapping[str, Any]]) -> Iterator[Metric]:
    """Give what the records of who saw whom lack: only the processes that write them say so."""
    accesses = CounterMetricFamily(
        "pylantir_access_lost", "Answers that are missing from the access log.", labels=["process"]
    )
    messages = CounterMetricFamily("pylantir_audit_lost", "Audit messages that the syslog server did not get.")
    for process in processes:
        if "access_lost" in process:
            accesses.add_metric([process["name"]], process["access_lost"] or 0)
        if "audit_lost" in process:
            messages.add_metric([], process["audit_lost"] or 0)
    yield from (accesses, messages)


def _tallies(tallies: Iterable[Mapping[str, object]]) -> Iterator[Metric]:
    listed = list(tallies)
    for name, text, labels in _COUNTERS:
        counter = CounterMetricFamily(name, text, labels=labels)
        for tally in listed:
            for values, count in counts_in(tally, name):
                counter.add_metric(values, count)
        yield counter
    for name, text, labels in _HISTOGRAMS:
        histogram = HistogramMetricFamily(name, text, labels=labels)
        for tally in listed:
            for values, buckets, sum_s in histograms_in(tally, name):
                bounds = [*map(str, BOUNDS_S), "+Inf"]
                histogram.add_metric(values, list(zip(bounds, accumulate(buckets), strict=True)), sum_s)
        yield histogram
