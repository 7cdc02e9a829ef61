"""Decides which items the records of disabled or removed sources may still keep. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from pylantir.entry import CANCELED
from pylantir.store.decide.claims import STATUS, Item, ItemDecision, Rules


def drop_abandoned(decisions: Iterable[ItemDecision], rules: Rules) -> tuple[list[ItemDecision], list[Item]]:
    """Drop the decisions in which only sources that are not enabled claim the item, unless they may keep it.

    Such sources never begin an item or bring one back. They do not keep an item that an enabled source has withdrawn.

    Returns:
        The remaining decisions, and the items to cancel.
    """
    standing, cancelled = [], []
    for decision in decisions:
        item = decision.item
        enabled = any(claim.data_source in rules.ranks for claim in decision.claims)
        if enabled or not decision.claims or (item is not None and item.touched):
            standing.append(decision)
        elif item is None or item.values[STATUS] == CANCELED:
            continue
        elif item.values["data_source"] in rules.ranks:
            cancelled.append(item)
        else:
            standing.append(decision)
    return standing, cancelled
