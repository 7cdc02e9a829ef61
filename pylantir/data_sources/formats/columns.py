"""Which columns of a source a `field_mapping` reads.

Lives in source workers, under every source that has named columns. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def columns_read(field_mapping: Mapping[str, Any]) -> tuple[str, ...]:
    """Name the columns that a mapping reads, each once, in its order.

    Args:
        field_mapping: Text form (column -> worklist field) and object form (worklist field -> {"from": …}), mixed.
    """
    named: list[str] = []
    for key, value in field_mapping.items():
        if isinstance(value, Mapping):
            given = value.get("from", value.get("source_field", key))
            named += [given] if isinstance(given, str) else list(given)
        else:
            named.append(key)
    return tuple(dict.fromkeys(named))


def is_plain(field_mapping: Mapping[str, Any]) -> bool:
    """Say whether a mapping only renames columns, each to a field of its own."""
    targets = list(field_mapping.values())
    return all(isinstance(target, str) for target in targets) and len(set(targets)) == len(targets)


def repeated_names(names: Sequence[str], *, ignore_case: bool = False) -> dict[str, list[int]]:
    """Find the names that stand more than once.

    Returns:
        Name as it first stands -> its positions, from 1. Empty names are no names.
    """
    places: dict[str, list[int]] = {}
    first: dict[str, str] = {}
    for position, name in enumerate(names, 1):
        if name:
            known = first.setdefault(name.casefold() if ignore_case else name, name)
            places.setdefault(known, []).append(position)
    return {name: positions for name, positions in places.items() if len(positions) > 1}
