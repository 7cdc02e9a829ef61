"""Values that records were taken without: kept per source, field and reason."""

from __future__ import annotations

from sqlalchemy import Engine

from pylantir.ipc.cycles import ValueWarning
from pylantir.store.intake.warnings import save_warnings
from pylantir.store.read.listings import find_warnings

NOON, LATER, NEXT_YEAR = (f"{day}T12:00:00.000000+00:00" for day in ("2030-07-01", "2030-07-02", "2031-07-01"))


def save(store: Engine, *warnings: ValueWarning, source: str = "csv", now: str = NOON, snapshot: bool = True) -> None:
    with store.begin() as connection:
        save_warnings(connection, source, warnings, now, snapshot=snapshot)


def told(store: Engine, source: str | None = None) -> list[tuple[object, ...]]:
    with store.connect() as connection:
        return [tuple(row.values()) for row in find_warnings(connection, source=source)]


def test_a_whole_fetch_replaces_what_was_told_of_its_source(store: Engine) -> None:
    save(store, ValueWarning("patient_sex", "what", 3), ValueWarning("patient_sex", "else", 1))
    save(store, ValueWarning("patient_sex", "what", 1), source="ris")
    save(store, ValueWarning("patient_sex", "what", 2), now=LATER)
    assert told(store) == [("csv", "patient_sex", "what", 2, LATER), ("ris", "patient_sex", "what", 1, NOON)]
    save(store)
    assert told(store, "csv") == []
    assert len(told(store)) == 1


def test_what_only_changed_is_added_and_forgotten_after_a_month(store: Engine) -> None:
    save(store, ValueWarning("a", "what", 3), snapshot=False)
    save(store, ValueWarning("b", "what", 1), now=LATER, snapshot=False)
    save(store, ValueWarning("b", "what", 5), now=LATER, snapshot=False)
    assert told(store) == [("csv", "a", "what", 3, NOON), ("csv", "b", "what", 5, LATER)]
    save(store, now=NEXT_YEAR, snapshot=False)
    assert told(store) == []
