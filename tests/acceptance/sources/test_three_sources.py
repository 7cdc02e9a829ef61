"""The main job: three sources with overlapping patients, one worklist, a scanner that reads it, whatever dies meanwhile."""

from __future__ import annotations

import json
import os
import re
import signal
from collections import Counter
from datetime import datetime
from itertools import pairwise

import psutil
from installation import Installation, wait_until

SCAN_DATE = "20300105"
CSV_ROWS, JSON_ROWS, PLUGIN_ROWS = range(1000), range(800, 1800), range(1600, 2600)
EVERYBODY = [f"P{number:04d}" for number in range(2600)]
STEP_DATE = "ScheduledProcedureStepSequence[0].ScheduledProcedureStepStartDate"

PLUGIN = """\
from dataclasses import dataclass
from pathlib import Path

from pylantir.data_sources.base import DataSourcePlugin


@dataclass
class Visit:
    number: int

    def entry(self):
        return {
            "source_record_id": f"visit-{self.number}", "patient_id": f"P{self.number:04d}",
            "patient_name": "Zyxwname^Plugin", "patient_birth_date": "1961-02-03",
            "scheduled_start_date": "2030-01-05", "scheduled_start_time": "10:00",
        }


class Clinic(DataSourcePlugin):
    def validate_config(self, config):
        return True, ""

    def get_source_name(self):
        return "clinic"

    def fetch_entries(self, field_mapping, interval):
        if Path("broken").exists():
            raise RuntimeError("the clinic's system is down")
        for number in range(1600, 2600):
            yield Visit(number).entry()
"""


def write_sources(installation: Installation, extra: list[str] = []) -> None:  # noqa: B006 - not changed
    rows = [f"P{number:04d};Zyxwname^Table;1961-02-03;F;2030-01-05;10:00" for number in CSV_ROWS]
    rows += [f"{patient};Zyxwname^Table;1961-02-03;F;2030-01-05;10:00" for patient in extra]
    rows += ["P9999;Zyxwname^Bad;1961-02-03;F;05/01/2030;10:00"]
    installation.write("table.csv", "\n".join(["id;name;born;sex;date;time", *rows]) + "\n")
    visits = [
        {"who": {"id": f"P{number:04d}", "name": "Zyxwname^Json", "born": "1961-02-03"}, "when": "2030-01-05T10:00:00"}
        for number in JSON_ROWS
    ]
    installation.write("visits.json", json.dumps({"data": {"items": visits}}))


def configure(installation: Installation) -> None:
    (installation.folder / "plugins").mkdir()
    (installation.folder / "plugins" / "clinic.py").write_text(PLUGIN, encoding="utf-8")
    common = {"sync_interval": 1, "defaults": {"modality": "MR"}}
    table = {
        **common,
        "name": "table",
        "type": "csv",
        "config": {"file_path": "table.csv", "watch_for_changes": True},
        "field_mapping": {
            "id": "patient_id",
            "name": "patient_name",
            "born": "patient_birth_date",
            "sex": "patient_sex",
            "date": "scheduled_start_date",
            "time": "scheduled_start_time",
        },
    }
    visits = {
        **common,
        "name": "visits",
        "type": "json",
        "config": {"file_path": "visits.json", "records_path": "data.items"},
        "field_mapping": {
            "who.id": "patient_id",
            "who.name": "patient_name",
            "who.born": "patient_birth_date",
            "when": "scheduled_start",
        },
    }
    clinic = {**common, "name": "clinic", "type": "clinic", "config": {}}
    installation.configure(table, visits, clinic, allowed_aet=["MRI_SCANNER"])


def seen_by_scanner(installation: Installation, findscu: str) -> list[str]:
    answers = installation.find(findscu, "PatientID", f"{STEP_DATE}={SCAN_DATE}")
    return sorted(answer["PatientID"] for answer in answers)


def owners(installation: Installation) -> Counter[str]:
    return Counter(source for (source,) in installation.rows("select data_source from worklist_items"))


def goes_on(installation: Installation, source: str, after: int) -> bool:
    """Whether three fetches, after the first ones, have followed each other as they should."""
    starts = [datetime.fromisoformat(moment) for moment in installation.runs(source)[after:][-3:]]
    return len(starts) == 3 and all((later - earlier).total_seconds() < 2.5 for earlier, later in pairwise(starts))


def test_three_sources_one_worklist(installation: Installation, findscu: str) -> None:
    write_sources(installation)
    configure(installation)
    installation.start(until="healthy")

    # Each expected entry once, and the database says from which source.
    assert seen_by_scanner(installation, findscu) == EVERYBODY
    assert owners(installation) == {"table": 1000, "visits": 800, "clinic": 800}
    claims = installation.rows("select data_source, count(*) from source_entries group by 1")
    assert dict(claims) == {"table": 1000, "visits": 1000, "clinic": 1000}
    assert installation.rows("select data_source, field from rejected_entries") == [("table", "scheduled_start_date")]

    # Each child is killed in turn; it is replaced, the worklist is whole, and what comes next is taken in.
    supervisor = psutil.Process(installation.status()["processes"][0]["pid"])
    extra: list[str] = []
    for name in ("writer", "mwl-scp", "table", "visits", "clinic"):
        pid = installation.process(name)["pid"]
        os.kill(pid, signal.SIGKILL)
        installation.wait_for_successor(name, pid)
        extra.append(f"Q{len(extra)}")
        write_sources(installation, extra)
        wait_until(lambda: set(extra) <= set(installation.patients()), f"{extra} after {name} was killed")
        assert seen_by_scanner(installation, findscu) == EVERYBODY + extra
    assert supervisor.is_running()

    # One source breaks: the others go on at full rate, and the status says so.
    table, flag = installation.folder / "table.csv", installation.folder / "broken"
    breaks = {"table": table.unlink, "clinic": flag.touch}
    repairs = {"table": lambda: write_sources(installation, extra), "clinic": flag.unlink}
    for broken in ("table", "clinic"):
        breaks[broken]()
        wait_until(lambda b=broken: installation.process(b)["last_error"], f"{broken} says what is wrong")
        installation.wait_for_health("degraded")
        others = [name for name in ("table", "visits", "clinic") if name != broken]
        before = {name: len(installation.runs(name)) for name in others}
        for other in others:
            wait_until(lambda o=other, b=before: goes_on(installation, o, b[o]), f"{other} goes on")
        assert installation.patients() == EVERYBODY + extra
        repairs[broken]()
        installation.command("sync", broken)
        installation.wait_for_health("healthy")

    assert seen_by_scanner(installation, findscu) == EVERYBODY + extra
    assert owners(installation) == {"table": 1000 + len(extra), "visits": 800, "clinic": 800}
    assert installation.terminate() == 0
    wait_until(lambda: not installation.live_processes(), "no process is left")
    assert installation.leftovers() == []

    log = installation.log()
    assert "the clinic's system is down" in log
    assert "plugins/clinic.py" in log
    assert re.search(r"cycle done: 1001 fetched, 1000 new, 0 changed, 0 unchanged, 0 cancelled, 1 rejected", log)
    # One line per conflict (200 patients are in two sources each), not one per cycle.
    assert len(re.findall(r"item \d+: patient_name from table wins over a different one from visits", log)) == 200
    assert len(re.findall(r"item \d+: patient_name from visits wins over a different one from clinic", log)) == 200
    assert not re.search("zyxwname|19610203|1961-02-03|05/01/2030", log, re.IGNORECASE)
