"""What a cycle has shown, a bit per record."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pylantir.store.intake.state import CycleState

RUNS = st.builds(lambda first, length: list(range(first, first + length)), st.integers(1, 100), st.integers(0, 40))
IDS = st.lists(RUNS | st.lists(st.integers(1, 150)), max_size=6)


@given(IDS)
def test_every_record_is_counted_once_and_found(portions: list[list[int]]) -> None:
    cycle = CycleState("c", "now")
    for portion in portions:
        cycle.mark_seen(portion)
    shown = {number for portion in portions for number in portion}
    assert cycle.seen_count == len(shown)
    assert {number for number in range(1, 200) if cycle.has_seen(number)} == shown
    for first in range(1, 160, 7):
        assert cycle.has_seen_any(range(first, first + 5)) == bool(shown & set(range(first, first + 5)))
