"""Finds column names that occur more than once.

Lives in source workers, under every source that has named columns. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence


def repeated_names(names: Sequence[str], *, ignore_case: bool = False) -> dict[str, list[int]]:
    """Find the names that occur more than once.

    Returns:
        Name as first written -> its positions, from 1. Empty names are ignored.
    """
    places: dict[str, list[int]] = {}
    first: dict[str, str] = {}
    for position, name in enumerate(names, 1):
        if name:
            known = first.setdefault(name.casefold() if ignore_case else name, name)
            places.setdefault(known, []).append(position)
    return {name: positions for name, positions in places.items() if len(positions) > 1}
