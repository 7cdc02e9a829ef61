"""What is unusable and optional costs nobody a place on the list, and everybody can see it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from installation import Installation, csv_source, wait_until

ROWS = """id,date,name,sex,weight
P1,2030-07-01,Doe^Jane,?,"72,5 kg"
P2,2030-07-01,Doe^John,?,0
P3,2030-07-01,#REF!,M,80
"""
MAPPING = {"id": "patient_id", "date": "scheduled_start_date", "name": "patient_name", "sex": "patient_sex",
           "weight": "patient_weight_kg"}  # fmt: skip


def data_command(installation: Installation, *arguments: str) -> Any:
    """Run `pylantir … --json` with the installation's configuration."""
    program = Path(sys.executable).parent / "pylantir"
    config = str(installation.folder / "pylantir.json")
    done = subprocess.run(
        [program, *arguments, "--json", "--config", config], capture_output=True, text=True, check=True, timeout=120
    )
    return json.loads(done.stdout)


def test_values_left_out_are_told_everywhere_and_refuse_nobody(installation: Installation) -> None:
    (installation.folder / "a.csv").write_text(ROWS, encoding="utf-8")
    installation.configure(csv_source("clinic", "a.csv", field_mapping=MAPPING))
    installation.start(until=None)
    # The end of a fetch tells of what was left out.
    wait_until(lambda: installation.runs("clinic"), "the first fetch")
    assert set(installation.patients()) >= {"P1", "P2"}

    warned = data_command(installation, "rejects", "--warnings")
    assert [(one["data_source"], one["field"], one["count"]) for one in warned] == [
        ("clinic", "patient_sex", 2), ("clinic", "patient_weight_kg", 1),
    ]  # fmt: skip
    rejected = data_command(installation, "rejects")
    assert [one["field"] for one in rejected] == ["patient_name"]
    preview = data_command(installation, "preview", "clinic")
    assert [(one["field"], one["count"]) for one in preview["warnings"]] == [
        ("patient_sex", 2), ("patient_weight_kg", 1),
    ]  # fmt: skip
    assert "clinic: last fetch: patient_sex: 2 left out" in installation.command("check").stderr
    wait_until(lambda: len(installation.runs("clinic")) >= 3, "further fetches")
    assert installation.log().count("values left out or changed: patient_sex (2)") == 1
    assert data_command(installation, "rejects", "--warnings")[0]["count"] == 2
