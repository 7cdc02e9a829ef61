"""What monitoring reads: metrics and readiness, from what the supervisor says."""

from __future__ import annotations

import json
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from pylantir.ipc.tally import MOST_NAMES, OTHER, Tally
from pylantir.web.health import reasons_against
from pylantir.web.metrics import write_metrics
from workers.supervisor.children.news import LONGEST_TALLY


def status(**changes: Any) -> dict[str, Any]:
    tally = Tally()
    tally.count("pylantir_find", "MR1", "0000")
    tally.count("pylantir_find", "MR1", "0000")
    tally.note("pylantir_find_duration_seconds", 0.004, "MR1")
    tally.note("pylantir_find_duration_seconds", 99.0, "MR1")
    tally.count("pylantir_mpps", "MR1", "N-CREATE", "0000")
    tally.note("pylantir_mpps_duration_seconds", 0.1, "MR1")
    tally.count("pylantir_source_cycles", "a", "ok")
    tally.note("pylantir_source_cycle_duration_seconds", 0.1, "a")
    return {
        "health": "healthy",
        "processes": [
            {"name": "supervisor", "state": "RUNNING", "restarts": 0},
            {"name": "writer", "role": "writer", "state": "RUNNING", "restarts": 2, "queue_depth": 3, "last_error": None,
             "access_lost": 0, "audit_lost": 6},
            {"name": "mwl-scp", "role": "mwl-scp", "state": "RUNNING", "restarts": 0, "last_error": None,
             "refusals": {"unknown calling title": 4}, "access_lost": 8, "tally": tally.take_news()},
            {"name": "a", "role": "source", "state": "RUNNING", "restarts": 0, "entries": 7, "rejected": 1, "lag_s": 0.5,
             "last_sync": "2030-01-01T00:00:00+00:00", "last_error": None},
        ],
        **changes,
    }  # fmt: skip


def samples(written: bytes) -> dict[tuple[str, tuple[str, ...]], float]:
    families = text_string_to_metric_families(written.decode())
    return {
        (sample.name, tuple(sample.labels.values())): sample.value for family in families for sample in family.samples
    }


def test_metrics_say_what_the_status_says() -> None:
    found = samples(write_metrics(status(), (5, {"a": 2}), "here"))
    assert found["pylantir_process_restarts_total", ("writer",)] == 2
    assert found["pylantir_queue_depth", ()] == 3
    assert found["pylantir_source_entries", ("a",)] == 7
    assert found["pylantir_source_lag_seconds", ("a",)] == 0.5
    assert found["pylantir_refusals_total", ("unknown calling title",)] == 4
    assert found["pylantir_access_lost_total", ("mwl-scp",)] == 8
    assert found["pylantir_access_lost_total", ("writer",)] == 0
    assert found["pylantir_audit_lost_total", ()] == 6
    assert found["pylantir_find_total", ("MR1", "0000")] == 2
    assert found["pylantir_find_duration_seconds_count", ("MR1",)] == 2
    assert found["pylantir_find_duration_seconds_bucket", ("MR1", "0.005")] == 1
    assert found["pylantir_database_up", ()] == 1
    assert found["pylantir_conflicts", ()] == 5
    assert found["pylantir_source_held", ("a",)] == 2
    assert found["pylantir_lease_holder", ("here", "a")] == 1


METRICS = {
    "pylantir_process_up": {"process"}, "pylantir_process_restarts_total": {"process"},
    "pylantir_source_cycles_total": {"source", "result"}, "pylantir_source_cycle_duration_seconds_count": {"source"},
    "pylantir_source_entries": {"source"}, "pylantir_source_rejected": {"source"}, "pylantir_source_held": {"source"},
    "pylantir_source_lag_seconds": {"source"}, "pylantir_conflicts": set(), "pylantir_queue_depth": set(),
    "pylantir_database_up": set(), "pylantir_find_total": {"aet", "status"},
    "pylantir_find_duration_seconds_count": {"aet"}, "pylantir_mpps_total": {"aet", "operation", "status"},
    "pylantir_mpps_duration_seconds_count": {"aet"}, "pylantir_associations": set(),
    "pylantir_refusals_total": {"reason"}, "pylantir_lease_holder": {"source", "host"},
    "pylantir_access_lost_total": {"process"}, "pylantir_audit_lost_total": set(),
}  # fmt: skip


def test_every_metric_has_its_name_and_labels() -> None:
    written = write_metrics(status(), (0, {}), "here").decode()
    labels = {
        sample.name: set(sample.labels)
        for family in text_string_to_metric_families(written)
        for sample in family.samples
        if not sample.name.endswith(("_bucket", "_sum"))
    }
    assert labels == METRICS


def test_a_source_that_another_host_fetches_names_that_host() -> None:
    waiting = status()
    waiting["processes"][3]["state"] = "STANDBY (host-b)"
    found = samples(write_metrics(waiting, (0, {}), "here"))
    assert found["pylantir_lease_holder", ("host-b", "a")] == 1
    assert ("pylantir_lease_holder", ("here", "a")) not in found
    assert found["pylantir_process_up", ("a",)] == 1


def test_a_disabled_source_has_no_process_that_could_be_down() -> None:
    with_disabled = status()
    with_disabled["processes"].append({"name": "off", "role": "source", "state": "DISABLED", "restarts": 0})
    assert ("pylantir_process_up", ("off",)) not in samples(write_metrics(with_disabled, (0, {}), "here"))


def test_a_database_that_cannot_be_read_is_down_and_counts_nothing() -> None:
    found = samples(write_metrics(status(), None, "here"))
    assert found["pylantir_database_up", ()] == 0
    assert ("pylantir_conflicts", ()) not in found


def test_a_supervisor_that_does_not_answer_is_down() -> None:
    assert samples(write_metrics(None, None, "here")) == {("pylantir_process_up", ("supervisor",)): 0}
    assert reasons_against(None) == ["supervisor: does not answer"]


def test_ready_only_when_healthy_and_reasons_named() -> None:
    assert reasons_against(status()) == []
    broken = status(health="degraded")
    broken["processes"][3] |= {"last_error": "no such file", "problem": "no such file"}
    assert reasons_against(broken) == ["a: no such file"]
    assert reasons_against({"health": "starting", "processes": []}) == ["supervisor: starting"]


def test_names_that_strangers_choose_are_bounded() -> None:
    tally = Tally()
    labels = {tally.known(f"AET{number}") for number in range(10 * MOST_NAMES)}
    assert len(labels) == MOST_NAMES + 1
    assert OTHER in labels


def test_a_configured_scanner_keeps_its_name_whoever_asked_before() -> None:
    tally = Tally({"MR1"})
    for number in range(10 * MOST_NAMES):
        tally.known(f"AET{number}")
    assert tally.known("MR1") == "MR1"


def test_all_that_a_busy_server_counts_fits_into_one_report() -> None:
    tally = Tally()
    for number in range(10 * MOST_NAMES):
        title = tally.known(f"SCANNER_{number:08}")
        for status_code in range(0xA700, 0xA714):
            tally.count("pylantir_find", title, f"{status_code:04X}")
            tally.count("pylantir_mpps", title, "N-CREATE", f"{status_code:04X}")
            tally.note("pylantir_find_duration_seconds", 1e6 / 3, title)
            tally.note("pylantir_mpps_duration_seconds", 1e6 / 3, title)
    assert len(json.dumps(tally.take_news())) < LONGEST_TALLY


def test_news_only_when_there_are_some() -> None:
    tally = Tally()
    assert tally.take_news() is None
    tally.count("pylantir_find", "MR1", "0000")
    assert tally.take_news() == {"counts": [["pylantir_find", ["MR1", "0000"], 1]], "histograms": []}
    assert tally.take_news() is None
