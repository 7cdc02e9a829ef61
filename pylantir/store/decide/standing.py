"""What sources may still keep alive that are disabled or no longer configured. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from pylantir.entry import CANCELED
from pylantir.store.decide.claims import STATUS, Item, ItemDecision, Rules


def drop_abandoned(decisions: Iterable[ItemDecision], rules: Rules) -> tuple[list[ItemDecision], list[Item]]:
    """Take out what only sources say that are not enabled, where they may not decide.

    They never begin an item nor bring one back, and never keep one alive that an enabled source gave and gives no more.

    Returns:
        The decisions that stand, and the items that are to be cancelled.
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
