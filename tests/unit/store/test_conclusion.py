"""What the end of a cycle allows to conclude, as a truth table."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylantir.store.decide.conclusion import Conclusion, conclude

GOOD: dict[str, Any] = {
    "error": None, "complete": True, "frames_missing": False, "whole": True, "accepted": 5, "refused": 0,
    "unreadable": 0, "keep_missing": False,
}  # fmt: skip


@pytest.mark.parametrize(
    ("differs", "error", "settles", "removes"),
    [
        ({}, None, True, True),
        ({"refused": 3}, None, True, True),
        ({"accepted": 0}, None, True, True),
        ({"accepted": 0, "refused": 3}, "none of the 3 records", False, False),
        ({"accepted": 0, "refused": 3, "complete": False}, None, False, False),
        ({"accepted": 0, "refused": 3, "whole": False}, None, False, False),
        ({"accepted": 0, "refused": 3, "error": "down"}, "down", False, False),
        ({"refused": 3, "unreadable": 1}, None, True, False),
        ({"keep_missing": True}, None, True, False),
        ({"complete": False}, None, False, False),
        ({"whole": False}, None, False, False),
        ({"frames_missing": True}, "some of its batches did not arrive", False, False),
        ({"frames_missing": True, "error": "down"}, "down", False, False),
        ({"error": "down"}, "down", False, False),
    ],
)
def test_truth_table(differs: dict[str, Any], error: str | None, settles: bool, removes: bool) -> None:
    conclusion = conclude(**{**GOOD, **differs})
    assert (conclusion.settles, conclusion.removes) == (settles, removes)
    assert conclusion.error is None if error is None else error in str(conclusion.error)


@given(
    st.fixed_dictionaries(
        {
            "error": st.none() | st.just("down"), "complete": st.booleans(), "frames_missing": st.booleans(),
            "whole": st.booleans(), "accepted": st.integers(0, 3), "refused": st.integers(0, 3),
            "unreadable": st.integers(0, 2), "keep_missing": st.booleans(),
        }
    )
)  # fmt: skip
def test_nothing_is_removed_after_a_failure_or_without_everything_being_known(told: dict[str, Any]) -> None:
    conclusion = conclude(**told)
    assert isinstance(conclusion, Conclusion)
    if conclusion.removes:
        assert conclusion.settles
        assert not told["unreadable"]
        assert not told["keep_missing"]
    if conclusion.settles:
        assert conclusion.error is None
        assert told["complete"]
        assert told["whole"]
        assert told["accepted"] or not told["refused"]
