"""Messages are put together from whatever fragments a peer sends, and any bytes are a message or a broken rule."""

from __future__ import annotations

import contextlib

import pytest
from corpus.make import IDENTIFIER, MPPS, WORKLIST, command, us
from hypothesis import given
from hypothesis import strategies as st

from pylantir.dicom.net import messages
from pylantir.dicom.net.commands import Operation, read_command
from pylantir.dicom.net.messages import (
    MAX_COMMAND_BYTES,
    MAX_IDENTIFIER_BYTES,
    MAX_MESSAGE_BYTES,
    MAX_WAITING_MESSAGES,
    Inbox,
    MessageAssembler,
    Room,
)
from pylantir.dicom.net.negotiation import Offer, accept, lack_of_contexts, read_request
from pylantir.dicom.net.pdus import IS_COMMAND, IS_LAST, item, presentation_values
from pylantir.dicom.net.refusals import ProtocolError
from pylantir.dicom.net.services import IMPLICIT_VR, VERIFICATION, refusal_of

CUTS = st.lists(st.integers(1, 40), max_size=40)


def fragments(data: bytes, kind: int, cuts: list[int]) -> list[tuple[int, bytes]]:
    parts = []
    for cut in cuts:
        parts.append(data[:cut])
        data = data[cut:]
    parts = [part for part in (*parts, data) if part] or [b""]
    return [(kind | (IS_LAST if number == len(parts) else 0), part) for number, part in enumerate(parts, start=1)]


@given(cuts=CUTS, more_cuts=CUTS, data=st.binary(min_size=1, max_size=300))
def test_a_message_is_the_same_however_it_is_cut(cuts: list[int], more_cuts: list[int], data: bytes) -> None:
    find = command(0x0020, affected=WORKLIST, data=1, message_id=7)
    assembler = MessageAssembler()
    whole = None
    for control, part in fragments(find, IS_COMMAND, cuts) + fragments(data, 0, more_cuts):
        assert whole is None
        whole = assembler.add(3, control, part)
    assert whole is not None
    assert (whole.context_id, whole.data, whole.data_bytes) == (3, data, len(data))
    assert (whole.command.operation, whole.command.message_id) == (Operation.C_FIND, 7)


@given(st.lists(st.tuples(st.sampled_from([1, 3]), st.integers(0, 3), st.binary(max_size=60)), max_size=20))
def test_any_fragments_are_messages_or_a_broken_rule(sent: list[tuple[int, int, bytes]]) -> None:
    assembler = MessageAssembler()
    with contextlib.suppress(ProtocolError):
        for context, control, part in sent:
            assembler.add(context, control, part)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_command_a_pdu_and_a_request_or_a_broken_rule(data: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        refusal_of(read_command(data), WORKLIST)
    with contextlib.suppress(ProtocolError):
        list(presentation_values(data))
    with contextlib.suppress(ProtocolError):
        offer = Offer(syntaxes={}, implementation_class="1.2", implementation_version="X")
        accept(read_request(bytes(6 + 68) + data), offer)


@pytest.mark.parametrize(
    ("classes", "syntax", "words"),
    [
        ((), "1.2", "it proposes no presentation context"),
        ((WORKLIST,), "1.2.840.10008.1.2.2", "and not in Implicit or Explicit VR Little Endian"),
        (
            ("1.2.840.10008.5.1.4.1.2.2.1",),
            "1.2",
            "Study Root Query/Retrieve Information Model - FIND, and this server",
        ),
        (("1.2.3", "1.2.4", "1.2.5", "1.2.6", "\x1b[31m"), "1.2", "1.2.3, 1.2.4, 1.2.5 and 2 more, and this server"),
        (("\x1b[31m" + 300 * "x",), "1.2", "\N{REPLACEMENT CHARACTER}[31m" + 59 * "x" + ", and this server"),
    ],
)
def test_why_a_scanner_is_offered_nothing_is_said_in_words(classes: tuple[str, ...], syntax: str, words: str) -> None:
    contexts = b"".join(
        item(0x20, bytes((2 * number + 1, 0, 0, 0)) + item(0x30, name.encode()) + item(0x40, syntax.encode()))
        for number, name in enumerate(classes)
    )
    request = read_request(bytes(6 + 68) + contexts)
    offer = Offer(syntaxes={WORKLIST: (IMPLICIT_VR,)}, implementation_class="1.2", implementation_version="X")
    assert accept(request, offer)[0] == {}
    assert words in lack_of_contexts(request, offer)


@given(
    field=st.sampled_from([0x0001, 0x0010, 0x0020, 0x0021, 0x0030, 0x0100, 0x0110, 0x0120, 0x0130, 0x0140, 0x0150]),
    affected=st.sampled_from([None, WORKLIST, MPPS, "1.2.3", ""]),
    requested=st.sampled_from([None, WORKLIST, MPPS]),
    message_id=st.sampled_from([None, 0, 65535]),
    context=st.sampled_from(["1.2.840.10008.1.1", WORKLIST, MPPS, "1.2.840.10008.3.1.2.3.4"]),
)
def test_every_request_is_served_or_gets_a_status_that_says_why(
    field: int, affected: str | None, requested: str | None, message_id: int | None, context: str
) -> None:
    request = read_command(command(field, affected=affected, requested=requested, message_id=message_id))
    refusal = refusal_of(request, context)
    assert refusal is None or (refusal.status in {0x0118, 0x0122, 0x0211} and refusal.comment)


def test_a_cancel_names_its_request_in_either_element() -> None:
    responded_to = bytes.fromhex("00002001 02000000 0700".replace(" ", ""))
    assert read_command(command(0x0FFF, message_id=None, more=responded_to)).responded_to == 7
    assert read_command(command(0x0FFF, message_id=7)).responded_to == 7
    assert read_command(command(0x0FFF, message_id=9, more=responded_to)).responded_to == 7


def test_what_is_too_long_is_not_kept() -> None:
    assembler = MessageAssembler()
    assembler.add(3, IS_COMMAND | IS_LAST, command(0x0020, affected=WORKLIST, data=1))
    for _ in range(20):
        assert assembler.add(3, 0, bytes(100_000)) is None
    whole = assembler.add(3, IS_LAST, IDENTIFIER)
    assert whole is not None
    assert whole.data_bytes == 2_000_000 + len(IDENTIFIER)
    assert len(whole.data) <= MAX_IDENTIFIER_BYTES


@pytest.mark.parametrize(
    ("field", "limit"), [(None, MAX_COMMAND_BYTES), (0x0020, MAX_MESSAGE_BYTES), (0x0140, MAX_MESSAGE_BYTES)]
)
def test_a_message_without_end_is_a_broken_rule(field: int | None, limit: int) -> None:
    assembler = MessageAssembler()
    kind = IS_COMMAND
    if field is not None:
        assembler.add(3, IS_COMMAND | IS_LAST, command(field, affected=WORKLIST, data=1))
        kind = 0
    for _ in range(limit // 50_000):
        assembler.add(3, kind, bytes(50_000))
    with pytest.raises(ProtocolError, match=f"more than {limit} bytes"):
        assembler.add(3, kind, bytes(50_000))


def begin_report(inbox: Inbox) -> None:
    inbox.add(3, IS_COMMAND | IS_LAST, command(0x0140, affected=MPPS, data=1))
    for _ in range(3):
        inbox.add(3, 0, bytes(messages.LARGE_MESSAGE_BYTES))


def test_large_reports_share_their_memory_and_one_without_room_is_put_off() -> None:
    room = Room(5 * messages.LARGE_MESSAGE_BYTES)
    first, second, third = Inbox(room), Inbox(room), Inbox(room)
    for inbox in (first, second, third):
        begin_report(inbox)
        inbox.add(3, IS_LAST, b"")
    taken = [inbox.take() for inbox in (first, second, third)]
    assert [(len(message.data), message.data_bytes, message.is_put_off) for message in taken if message] == [
        (3 * messages.LARGE_MESSAGE_BYTES, 3 * messages.LARGE_MESSAGE_BYTES, False),
        (3 * messages.LARGE_MESSAGE_BYTES, 3 * messages.LARGE_MESSAGE_BYTES, False),
        (0, 3 * messages.LARGE_MESSAGE_BYTES, True),
    ]
    # One is served, one association ends in the middle of a message, one with a message that waits.
    assert first.take() is None
    begin_report(third)
    third.leave()
    fourth = Inbox(room)
    begin_report(fourth)
    fourth.add(3, IS_LAST, b"")
    fourth.leave()
    second.leave()
    assert room.take(5 * messages.LARGE_MESSAGE_BYTES)
    assert not room.take(1)


def test_a_message_may_take_a_minute() -> None:
    now = [0.0]
    assembler = MessageAssembler(clock=lambda: now[0])
    assembler.add(3, IS_COMMAND, b"\0")
    now[0] = messages.MESSAGE_TIMEOUT_S + 1
    with pytest.raises(ProtocolError, match="took more than 60 s"):
        assembler.add(3, IS_COMMAND, b"\0")


def test_requests_wait_in_order_and_a_cancel_overtakes_them() -> None:
    inbox = Inbox()
    for message_id in (1, 2):
        inbox.add(3, IS_COMMAND | IS_LAST, command(0x0030, affected=VERIFICATION, message_id=message_id))
    inbox.add(3, IS_COMMAND | IS_LAST, command(0x0FFF, message_id=None, more=us(0x0120, 2)))
    first = inbox.take()
    assert first is not None
    assert (first.command.message_id, inbox.is_cancelled(1)) == (1, False)
    second = inbox.take()
    assert second is not None
    assert (second.command.message_id, inbox.is_cancelled(2)) == (2, True)
    assert inbox.take() is None


def test_a_cancel_that_comes_too_late_ends_no_later_query_of_the_same_number() -> None:
    inbox = Inbox()
    echo, cancel = command(0x0030, affected=VERIFICATION, message_id=7), command(0x0FFF, message_id=7)
    for when in ("before", "while it is served", "after"):
        if when == "before":
            inbox.add(3, IS_COMMAND | IS_LAST, cancel)
        inbox.add(3, IS_COMMAND | IS_LAST, echo)
        assert inbox.take() is not None
        assert not inbox.is_cancelled(7)
        if when == "while it is served":
            inbox.add(3, IS_COMMAND | IS_LAST, cancel)
            assert inbox.is_cancelled(7)
        assert inbox.take() is None
        if when == "after":
            inbox.add(3, IS_COMMAND | IS_LAST, cancel)
            inbox.add(3, IS_COMMAND | IS_LAST, echo)
            assert inbox.take() is not None
            assert not inbox.is_cancelled(7)


def test_who_never_waits_for_an_answer_is_told_so() -> None:
    inbox = Inbox()
    echo = command(0x0030, affected=VERIFICATION, message_id=1)
    for _ in range(MAX_WAITING_MESSAGES):
        inbox.add(3, IS_COMMAND | IS_LAST, echo)
    with pytest.raises(ProtocolError, match="without waiting for answers"):
        inbox.add(3, IS_COMMAND | IS_LAST, echo)
