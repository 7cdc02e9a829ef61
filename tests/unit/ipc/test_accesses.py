"""The frame that says who was shown what: it comes back as it went, and nothing else is accepted."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylantir.errors import ProtocolError
from pylantir.ipc.accesses import LONGEST_TEXT, Access, Alert, read_accesses, write_accesses
from pylantir.ipc.frames import Frame, encode_body

TEXTS = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=30)
MOMENTS = st.integers(0, 2_000_000_000_000_000)
ACCESSES = st.builds(
    Access,
    service=TEXTS,
    address=st.none() | TEXTS,
    peer=st.none() | TEXTS,
    certificate=st.none() | TEXTS,
    asked=TEXTS,
    status=TEXTS,
    matches=st.integers(0, 10**6),
    item_ids=st.lists(st.integers(0, 2**63 - 1), unique=True).map(sorted),
    moments=st.lists(MOMENTS, min_size=1).map(sorted),
    instance_uid=st.none() | TEXTS,
)
ALERTS = st.builds(Alert, kind=TEXTS, address=st.none() | TEXTS, peer=st.none() | TEXTS, text=TEXTS, moment=MOMENTS)


def sent(frame: Frame) -> Frame:
    return dict(json.loads(encode_body(frame)))


@given(st.lists(ACCESSES, max_size=5), st.lists(ALERTS, max_size=5))
def test_what_is_written_is_read(accesses: list[Access], alerts: list[Alert]) -> None:
    assert read_accesses(sent(write_accesses("x", accesses, alerts))) == (accesses, alerts)


RECORD = ["C-FIND", "h", "p", None, "", "0000", 1, [1], [5], None]


@pytest.mark.parametrize(
    "changes",
    [
        {"records": None}, {"records": {}}, {"records": [[]]}, {"records": [RECORD[:-1]]}, {"alerts": None},
        {"alerts": [["login"]]}, {"records": [RECORD] * 1001},
        *({"records": [[*RECORD[:place], value, *RECORD[place + 1 :]]]}
          for place, value in [(0, None), (0, 5), (1, []), (5, None), (6, -1), (6, True), (6, 1.5), (7, None), (7, [2**63]),
                               (7, ["1"]), (8, []), (8, [-1]), (8, [2**62]), (7, list(range(100_001))), (9, 5)]),
    ],
)  # fmt: skip
def test_anything_else_is_refused(changes: Frame) -> None:
    with pytest.raises(ProtocolError):
        read_accesses({"records": [], "alerts": [], **changes})


def test_texts_are_cut_and_made_storable() -> None:
    record = [*RECORD[:2], "A\0B\ud800" + "x" * 2000, *RECORD[3:]]
    (access,), _ = read_accesses({"records": [record], "alerts": []})
    assert access.peer is not None
    assert access.peer.startswith("A\N{REPLACEMENT CHARACTER}B?x")
    assert len(access.peer) == LONGEST_TEXT
