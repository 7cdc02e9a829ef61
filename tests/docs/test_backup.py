"""The backup page, followed word for word beside a running instance, and what is there after the restore."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

from pages import REPOSITORY, read_blocks, read_commands
from waiting import wait_until

PAGE = REPOSITORY / "docs/howto/backup.md"


def commands() -> list[str]:
    blocks = read_blocks(PAGE.read_text(encoding="utf-8"))
    return [command.line for block in blocks if block.language == "console" for command in read_commands(block)]


def test_a_backup_is_restored_with_its_items_and_its_audit(
    tmp_path: Path, environ: Mapping[str, str], port: int
) -> None:
    fields = {"id": "patient_id", "day": "scheduled_start_date"}
    source = {"name": "a", "type": "csv", "config": {"file_path": "a.csv"}, "field_mapping": fields}
    document = {"dicom": {"host": "127.0.0.1", "port": port}, "data_sources": [source]}
    (tmp_path / "pylantir.json").write_text(json.dumps(document))
    (tmp_path / "a.csv").write_text("id,day\nP1,2030-01-31\n")

    def run(line: str) -> str:
        options = {"cwd": tmp_path, "env": dict(environ), "timeout": 100, "text": True, "stdout": subprocess.PIPE}
        done = subprocess.run(["sh", "-c", line], check=False, **options)  # type: ignore[call-overload]
        assert done.returncode == 0, line
        return str(done.stdout)

    backup, stop = commands()[:2], commands().index("pylantir-supervisor stop")
    restore = commands()[stop:]
    assert restore[-1] == "pylantir-supervisor start --detach"
    run("pylantir-supervisor start --detach")
    try:
        wait_until(
            lambda: [one["patient_id"] for one in json.loads(run("pylantir query-db --json"))] == ["P1"], "it is back"
        )
        for line in backup:
            run(line)
        (tmp_path / "a.csv").write_text("id,day\nP2,2030-01-31\n")
        run("pylantir-supervisor sync a")
        wait_until(lambda: "P2" in run("pylantir query-db --json"), "the source is fetched")
        for line in restore[:-1]:
            run(line)
        assert [one["patient_id"] for one in json.loads(run("pylantir query-db --json"))] == ["P1"]
        assert [one["action"] for one in json.loads(run("pylantir audit --json"))] == ["created"]
        run(restore[-1])
    finally:
        subprocess.run(["pylantir-supervisor", "stop"], cwd=tmp_path, env=dict(environ), check=False, timeout=100)
