"""A source that is disabled or no longer configured keeps what it gives, and no more than that."""

from __future__ import annotations

import pytest

from pylantir.entry import CANCELED, COMPLETED, SCHEDULED
from pylantir.store.decide.claims import STATUS, Claim, Item, ItemDecision, Rules
from pylantir.store.decide.standing import drop_abandoned

RULES = Rules(ranks={"ris": 0})


def item(owner: str, status: str = SCHEDULED, *, touched: bool = False) -> Item:
    return Item(7, {"data_source": owner, STATUS: status, "scanner_touched": int(touched)})


def decided(of: Item | None, *sources: str) -> ItemDecision:
    claims = tuple(Claim(n, source, f"id:{n}", {"patient_id": "P"}, None) for n, source in enumerate(sources))
    return ItemDecision(item=of, claims=claims, values={})


@pytest.mark.parametrize(
    ("of", "sources", "stands", "is_cancelled"),
    [
        (None, ("ris",), True, False),
        (None, ("ris", "gone"), True, False),
        (None, ("gone",), False, False),
        (item("gone"), ("gone",), True, False),
        (item("ris"), ("gone",), False, True),
        (item("ris"), ("ris", "gone"), True, False),
        (item("gone", CANCELED), ("gone",), False, False),
        (item("gone", CANCELED), ("ris",), True, False),
        (item("ris", COMPLETED, touched=True), ("gone",), True, False),
        (item("ris", COMPLETED, touched=True), (), True, False),
    ],
)
def test_truth_table(of: Item | None, sources: tuple[str, ...], stands: bool, is_cancelled: bool) -> None:
    decision = decided(of, *sources)
    standing, cancelled = drop_abandoned([decision], RULES)
    assert standing == ([decision] if stands else [])
    assert cancelled == ([of] if is_cancelled else [])
