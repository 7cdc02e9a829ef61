"""The way from an old installation, followed word for word."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from old_installation import CONFIGURATION, METADATA, make_old_database, participant
from pages import REPOSITORY, Reader
from redcap_server import TOKEN, RedcapServer


def test_upgrade_works_as_written(tmp_path: Path, environ: Mapping[str, str], port: int) -> None:
    text = (REPOSITORY / "docs/howto/upgrade.md").read_text(encoding="utf-8")
    text = text.replace("4242", str(port)).replace("0.0.0.0", "127.0.0.1")
    make_old_database(tmp_path / "worklist.db", "0.4")
    configuration = {**CONFIGURATION, "db_update_interval": 60}
    (tmp_path / "mwl_config.json").write_text(json.dumps(configuration), encoding="utf-8")
    with RedcapServer(METADATA) as redcap:
        for number, date, time in (
            (101, "2030-01-30", "10:15"),
            (102, "2030-01-31", "11:00"),
            (103, "2030-02-01", "09:30"),
        ):
            redcap.put(*participant(number, date=date, time=time), changed_s_ago=7200)
        (tmp_path / ".env").write_text(f"REDCAP_API_URL={redcap.url}\nREDCAP_API_TOKEN={TOKEN}\n", encoding="utf-8")
        with Reader(tmp_path, environ, home="/home/you/mwl", skipped=(), instead={}) as reader:
            done = reader.follow(text)
    assert f"pylantir start --AEtitle MWL_SERVER --ip 127.0.0.1 --port {port} --pylantir_config mwl_config.json" in done
    assert TOKEN not in reader.log.read_text()
