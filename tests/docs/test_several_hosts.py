"""The page about several hosts: its SQL gives rights that are enough and no more; its configuration and the compose files load."""

from __future__ import annotations

import json
import re
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import insert, make_url, text
from sqlalchemy.exc import ProgrammingError

from pylantir.query import WorklistQuery
from pylantir.store.read.worklist import read_values
from pylantir.store.schema.engine import open_for_reading, open_for_writing
from pylantir.store.schema.tables import worklist_items
from pylantir.store.schema.upgrade import prepare_database
from workers.supervisor.check import check_configuration

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/howto/several-hosts.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_the_roles_have_the_rights_that_are_needed_and_no_more(postgresql_server: str, postgresql_url: str) -> None:
    own = str(make_url(postgresql_url).database)
    cluster, inside = (
        block.replace("pylantir_", f"{own}_").replace("DATABASE worklist", f'DATABASE "{own}_wl"')
        for block in blocks("sql")
    )
    with psycopg.connect(host=postgresql_server, user="pylantir", dbname="postgres", autocommit=True) as connection:
        try:
            for statement in filter(str.strip, cluster.split(";")):
                connection.execute(statement)
            with psycopg.connect(
                host=postgresql_server, user="pylantir", dbname=f"{own}_wl", autocommit=True
            ) as database:
                database.execute(inside)
            where = f"{own}_wl?host={postgresql_server}"
            writer = open_for_writing(f"postgresql+psycopg://{own}_writer@/{where}")
            prepare_database(writer)
            with writer.begin() as begun:
                begun.execute(insert(worklist_items), {"patient_id": "P1"})
            reader = open_for_reading(f"postgresql+psycopg://{own}_reader@/{where}")
            assert [row[0] for rows in read_values(reader, WorklistQuery(), ["patient_id"]) for row in rows] == ["P1"]
            # The role has no right to write, even if it asks for it.
            writing = open_for_writing(f"postgresql+psycopg://{own}_reader@/{where}")
            for statement in ("INSERT INTO worklist_items (patient_id) VALUES ('P2')", "CREATE TABLE mine (a int)"):
                with writing.begin() as begun, pytest.raises(ProgrammingError, match="permission denied"):
                    begun.execute(text(statement))
            for engine in (writer, reader, writing):
                engine.dispose()
        finally:
            connection.execute(f'DROP DATABASE IF EXISTS "{own}_wl" WITH (FORCE)')
            for role in ("writer", "reader"):
                connection.execute(f"DROP ROLE IF EXISTS {own}_{role}")


def test_the_configurations_are_valid(tmp_path: Path) -> None:
    (address,) = re.findall(r"WORKLIST_URL='(.*?)'", PAGE)
    shown = {"page.json": blocks("json")[0], "compose.json": (ROOT / "etc/compose/pylantir.json").read_text()}
    for name, written in shown.items():
        path = tmp_path / name
        path.write_text(json.dumps(json.loads(written)), encoding="utf-8")
        assert check_configuration(path, {"WORKLIST_URL": address}, {}).settings.db_url == address
    fail_over = next(block.strip() for block in blocks("text"))
    assert check_configuration(tmp_path / "page.json", {"WORKLIST_URL": fail_over}, {}).settings.db_url == fail_over
