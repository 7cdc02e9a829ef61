"""The metrics of the whole instance in Prometheus's text form, from what the supervisor says. No patient data.

Pure. Counters and histograms are those that each process keeps (`pylantir.ipc.tally`); they begin anew with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from pylantir.ipc.tally import BOUNDS_S, counts_in, histograms_in

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_Families = tuple[tuple[str, str, tuple[str, ...]], ...]
_COUNTERS: _Families = (
    ("pylantir_source_cycles", "Cycles of a source by result (ok, failed).", ("source", "result")),
    ("pylantir_find", "Worklist queries by AE title and final status.", ("aet", "status")),
    ("pylantir_mpps", "Reports of scanners by AE title, operation and status.", ("aet", "operation", "status")),
)
_HISTOGRAMS: _Families = (
    ("pylantir_source_cycle_duration_seconds", "How long a source's cycles took.", ("source",)),
    ("pylantir_find_duration_seconds", "How long answering worklist queries took.", ("aet",)),
    ("pylantir_mpps_duration_seconds", "How long answering reports took.", ("aet",)),
)
_SOURCE_GAUGES = (
    ("pylantir_source_entries", "Records that a source gives now.", "entries"),
    ("pylantir_source_rejected", "Records that were refused in the last cycle.", "rejected"),
    ("pylantir_source_held", "Items whose removal is held back.", "held_count"),
    ("pylantir_source_lag_seconds", "How much later than its timetable a source is.", "lag_s"),
)


def write_metrics(status: Mapping[str, Any] | None) -> bytes:
    """Write all metrics; with None (the supervisor does not answer), only the metric that says so."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(status))
    written: bytes = generate_latest(registry)
    return written


class _Collector:
    """What prometheus_client asks for the families."""

    def __init__(self, status: Mapping[str, Any] | None) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        """Give every family."""
        processes = list((self._status or {}).get("processes", ()))
        up = GaugeMetricFamily("pylantir_process_up", "1 while the process runs.", labels=["process"])
        restarts = CounterMetricFamily("pylantir_process_restarts", "Restarts since the start.", labels=["process"])
        for process in processes:
            up.add_metric([process["name"]], float(process.get("state") == "RUNNING" or _stands_by(process)))
            restarts.add_metric([process["name"]], float(process.get("restarts") or 0))
        if self._status is None:
            up.add_metric(["supervisor"], 0.0)
        yield from (up, restarts)
        yield from _sources(processes)
        yield from _services(self._status or {}, processes)
        yield from _tallies([process.get("tally") or {} for process in processes])


def _stands_by(process: Mapping[str, Any]) -> bool:
    return str(process.get("state")).startswith("STANDBY")


def _sources(processes: Iterable[Mapping[str, Any]]) -> Iterator[Metric]:
    sources = [process for process in processes if process.get("role") == "source"]
    for name, text, key in _SOURCE_GAUGES:
        family = GaugeMetricFamily(name, text, labels=["source"])
        for source in sources:
            if isinstance(source.get(key), int | float):
                family.add_metric([source["name"]], float(source[key]))
        yield family
    holders = GaugeMetricFamily("pylantir_lease_holder", "1 for the host that fetches.", labels=["source", "host"])
    for source in sources:
        if source.get("lease_host"):
            holders.add_metric([source["name"], source["lease_host"]], 1.0)
    yield holders


def _services(status: Mapping[str, Any], processes: Iterable[Mapping[str, Any]]) -> Iterator[Metric]:
    by_name = {process["name"]: process for process in processes}
    writer, server = by_name.get("writer", {}), by_name.get("mwl-scp", {})
    conflicts = status.get("conflicts") or 0
    yield GaugeMetricFamily("pylantir_conflicts", "Open differences (`pylantir conflicts`).", conflicts)
    yield GaugeMetricFamily("pylantir_queue_depth", "Frames that wait for the writer.", writer.get("queue_depth") or 0)
    works = not writer.get("last_error") and not server.get("last_error")
    yield GaugeMetricFamily("pylantir_database_up", "1 while the database can be read and written.", float(works))
    yield GaugeMetricFamily("pylantir_associations", "Associations just now.", server.get("associations") or 0)
    refusals = CounterMetricFamily("pylantir_refusals", "Refused or aborted, by reason.", labels=["reason"])
    for reason, count in (server.get("refusals") or {}).items():
        refusals.add_metric([reason], count)
    yield refusals


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
