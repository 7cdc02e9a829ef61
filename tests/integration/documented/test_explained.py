"""The worked examples of docs/explanation/one-truth.md are true, in whatever order the sources speak."""

from __future__ import annotations

import re
from itertools import permutations
from pathlib import Path

import pytest
from sqlalchemy import Engine
from worklist_store import RANKS, Feed, check_audit, items, record

from pylantir.entry import CANCELED
from pylantir.store.decide.claims import STATUS
from pylantir.store.schema.engine import open_for_writing
from pylantir.store.schema.upgrade import prepare_database

PAGE = Path(__file__).parents[3] / "docs" / "explanation" / "one-truth.md"
FIELDS = {
    "source": "data_source", "record": "source_record_id", "patient": "patient_id", "date": "scheduled_start_date",
    "time": "scheduled_start_time", "modality": "modality", "accession": "accession_number", "born": "patient_birth_date",
    "protocol": "protocol_name", "sex": "patient_sex", "name": "patient_name", "status": STATUS,
}  # fmt: skip


def read_table(block: str) -> list[dict[str, str]]:
    head, *lines = ([cell.strip() for cell in line.split("|")] for line in block.strip().splitlines())
    return [{FIELDS[name]: cell for name, cell in zip(head, line, strict=True) if cell} for line in lines]


def read_examples() -> list[tuple[list[dict[str, str]], list[dict[str, str]]]]:
    blocks = re.findall(r"```given\n(.*?)```\s+```then\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return [(read_table(given), read_table(then)) for given, then in blocks]


def deliver(engine: Engine, given: list[dict[str, str]], order: tuple[str, ...]) -> None:
    for name in order:
        shown = []
        for row in given:
            source, record_id, patient, *_ = row.values()
            if source == name:
                rest = {"scheduled_start_time": ""} | {
                    k: v for k, v in row.items() if v not in (source, record_id, patient)
                }
                shown.append(record(record_id, patient, **rest))
        if shown:
            Feed(engine, name).sync(*shown)


def test_the_page_has_examples() -> None:
    assert len(read_examples()) >= 4


@pytest.mark.parametrize("number", range(len(read_examples())))
def test_an_example_holds_in_every_order(number: int, tmp_path: Path) -> None:
    given, then = read_examples()[number]
    for order in permutations(RANKS):
        engine = open_for_writing(f"sqlite:///{tmp_path / '-'.join(order)}.db")
        prepare_database(engine)
        deliver(engine, given, order)
        shown = [{name: str(one[name]) for name in then[0]} for one in items(engine) if one[STATUS] != CANCELED]
        assert sorted(map(str, shown)) == sorted(map(str, then))
        check_audit(engine)
        engine.dispose()
