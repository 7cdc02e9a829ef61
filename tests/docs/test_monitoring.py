"""What `etc/monitoring` and the reference say about metrics is what the program gives."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from foreign.servers import needed
from pages import REPOSITORY
from prometheus_client.parser import text_string_to_metric_families

from pylantir.web.metrics import write_metrics

MONITORING = REPOSITORY / "etc" / "monitoring"
RULES, DASHBOARD = MONITORING / "alerts.yml", MONITORING / "grafana-dashboard.json"
REFERENCE = REPOSITORY / "docs" / "reference" / "metrics.md"
_STATUS = {"processes": [{"name": "supervisor", "state": "RUNNING"}]}
_PARTS = ("_total", "_bucket", "_count", "_sum")


def metrics() -> dict[str, str]:
    """Name -> type, as a reader of `/metrics` knows them; counters end with `_total`."""
    families = text_string_to_metric_families(write_metrics(_STATUS, (0, {}), "here").decode())
    return {family.name + ("_total" if family.type == "counter" else ""): family.type for family in families}


def test_every_metric_stands_in_the_reference_and_no_other() -> None:
    rows = re.findall(r"^\| `(pylantir_\w+)` \| (\w+) \|", REFERENCE.read_text(encoding="utf-8"), re.MULTILINE)
    assert dict(rows) == metrics()


@pytest.mark.parametrize("file", [RULES, DASHBOARD])
def test_rules_and_dashboard_ask_for_metrics_that_there_are(file: Path) -> None:
    known = set(metrics())
    asked = set(re.findall(r"pylantir_[a-z_]+", file.read_text(encoding="utf-8")))
    unknown = {name for name in asked if name not in known and name.removesuffix(_part(name)) not in known}
    assert not unknown


def _part(name: str) -> str:
    return next((part for part in _PARTS if name.endswith(part)), "")


def test_every_metric_is_on_the_dashboard() -> None:
    text = DASHBOARD.read_text(encoding="utf-8")
    json.loads(text)
    assert not [name for name in metrics() if name not in text]


def test_each_alert_fires_when_it_should_and_stands_in_the_guide() -> None:
    promtool = needed("promtool", "prometheus")
    for command in (["check", "rules", RULES.name], ["test", "rules", "alerts.test.yml"]):
        done = subprocess.run([promtool, *command], cwd=MONITORING, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    alerts = set(re.findall(r"- alert: (\w+)", RULES.read_text(encoding="utf-8")))
    guide = (REPOSITORY / "docs" / "howto" / "monitoring.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`(Pylantir\w+)`", guide)) == alerts
    tests = (MONITORING / "alerts.test.yml").read_text(encoding="utf-8")
    assert {alert for alert in alerts if tests.count(alert) < 2} == set()
