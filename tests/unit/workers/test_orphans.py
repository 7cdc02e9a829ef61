"""Which processes are taken for those that a worker has left behind."""

from __future__ import annotations

import pytest

from workers.supervisor.children.orphans import choose_ended

ENDED, LIVING = 100, 200


@pytest.mark.parametrize(
    ("group", "known", "chosen"),
    [
        pytest.param(ENDED, set(), True, id="a child of the ended worker"),
        pytest.param(7, set(), True, id="a child of it in a session of its own"),
        pytest.param(LIVING, set(), False, id="a process that another worker's program has left in its group"),
        pytest.param(7, {7}, False, id="a daemon that was there before"),
    ],
)
def test_only_what_came_with_the_end_of_a_worker_is_ended(group: int, known: set[int], chosen: bool) -> None:
    assert choose_ended({7: group}, known, {LIVING}) == ({7} if chosen else set())
