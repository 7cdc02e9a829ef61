"""What monitoring reads: metrics and readiness, from what the supervisor says."""

from __future__ import annotations

from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from pylantir.ipc.tally import MOST_NAMES, OTHER, Tally
from pylantir.web.health import reasons_against
from pylantir.web.metrics import write_metrics


def status(**changes: Any) -> dict[str, Any]:
    tally = Tally()
    tally.count("pylantir_find", "MR1", "0000")
    tally.count("pylantir_find", "MR1", "0000")
    tally.note("pylantir_find_duration_seconds", 0.004, "MR1")
    tally.note("pylantir_find_duration_seconds", 99.0, "MR1")
    return {
        "health": "healthy",
        "processes": [
            {"name": "supervisor", "state": "RUNNING", "restarts": 0},
            {"name": "writer", "role": "writer", "state": "RUNNING", "restarts": 2, "queue_depth": 3, "last_error": None},
            {"name": "mwl-scp", "role": "mwl-scp", "state": "RUNNING", "restarts": 0, "last_error": None,
             "refusals": {"unknown calling title": 4}, "tally": tally.take_news()},
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
    found = samples(write_metrics(status()))
    assert found["pylantir_process_restarts_total", ("writer",)] == 2
    assert found["pylantir_queue_depth", ()] == 3
    assert found["pylantir_source_entries", ("a",)] == 7
    assert found["pylantir_source_lag_seconds", ("a",)] == 0.5
    assert found["pylantir_refusals_total", ("unknown calling title",)] == 4
    assert found["pylantir_find_total", ("MR1", "0000")] == 2
    assert found["pylantir_find_duration_seconds_count", ("MR1",)] == 2
    assert found["pylantir_find_duration_seconds_bucket", ("MR1", "0.005")] == 1
    assert found["pylantir_database_up", ()] == 1


def test_a_supervisor_that_does_not_answer_is_down() -> None:
    assert samples(write_metrics(None))["pylantir_process_up", ("supervisor",)] == 0
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


def test_news_only_when_there_are_some() -> None:
    tally = Tally()
    assert tally.take_news() is None
    tally.count("pylantir_find", "MR1", "0000")
    assert tally.take_news() == {"counts": [["pylantir_find", ["MR1", "0000"], 1]], "histograms": []}
    assert tally.take_news() is None
