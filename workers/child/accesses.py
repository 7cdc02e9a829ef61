"""Keeps what a process has shown to whom until the writer takes it.

Lives in the server and in the web process. Association and page threads note each answer here; the thread that talks to
the writer takes it from here, a frame at a time. Nothing here waits, so an answer is never delayed. While the writer is
away a bounded number is kept; what does not fit is counted, logged and shown in `status --json`.
"""

from __future__ import annotations

import logging
import threading
import time
from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from pylantir.ipc.accesses import (
    LONGEST_TEXT,
    MAX_ALERTS,
    MAX_ITEMS,
    MAX_MOMENTS,
    MAX_MOMENTS_PER_FRAME,
    MAX_RECORDS,
    Access,
    Alert,
)
from pylantir.settings import AccessSettings
from workers.child.channel import Channel

GATHER_S = 0.5
"""How long answers are gathered before they are sent: the same ones become one record."""
MAX_WAITING = 5000
"""The most different answers that wait."""
MAX_WAITING_ITEMS = 1_000_000
TELL_EVERY_S = 60.0

logger = logging.getLogger(__name__)
_Key = tuple[str, str | None, str | None, str | None, str, str, int, bytes, str | None]


@dataclass(slots=True)
class _Waiting:
    """What waits for the writer, in the order in which it came."""

    answers: dict[_Key, list[int]] = field(default_factory=dict)
    alerts: list[Alert] = field(default_factory=list)
    items: int = 0


class AccessBuffer:
    """The answers of one process that the writer has not taken yet. For any thread.

    Args:
        settings: Whether answers are recorded, and whether anybody wants to know who was refused.
        clock: Seconds since 1970.

    Attributes:
        wake: Called, by any thread, when there is something to send after a pause; set by the sender.
        lost: How many answers and alerts were lost.
    """

    def __init__(self, settings: AccessSettings, clock: Callable[[], float] = time.time) -> None:
        self.wake: Callable[[], None] = lambda: None
        self.lost = 0
        self._is_kept = settings.log or settings.syslog is not None
        self._takes_alerts = settings.syslog is not None
        self._clock = clock
        self._lock = threading.Lock()
        self._waiting = _Waiting()
        self._due_at: float | None = None
        self._told_lost = 0
        self._told_at = float("-inf")

    def note(
        self,
        service: str,
        *,
        address: str | None,
        peer: str | None,
        certificate: str | None = None,
        asked: Iterable[str] = (),
        status: str,
        matches: int,
        item_ids: Iterable[int] = (),
        instance_uid: str | None = None,
    ) -> None:
        """Note an answer; `Access` explains the arguments."""
        if not self._is_kept:
            return
        items, question, moment = array("q", item_ids), ", ".join(asked)[:LONGEST_TEXT], self._now_us()
        # A very long answer becomes several records, which have the matches together.
        parts = [items[start : start + MAX_ITEMS] for start in range(0, len(items), MAX_ITEMS)] or [items]
        is_first = False
        with self._lock:
            for part in parts:
                count = matches if len(parts) == 1 else len(part)
                key = (service, address, peer, certificate, question, status, count, part.tobytes(), instance_uid)
                is_first = self._add(key, len(part), moment) or is_first
        if is_first:
            self.wake()

    def alert(self, kind: str, *, address: str | None, peer: str | None, text: str) -> None:
        """Note that somebody was refused; `Alert` explains the arguments."""
        if not self._takes_alerts:
            return
        alert = Alert(kind=kind, address=address, peer=peer, text=text, moment=self._now_us())
        with self._lock:
            if len(self._waiting.alerts) < MAX_ALERTS:
                self._waiting.alerts.append(alert)
            else:
                self.lost += 1
            is_first = self._note_due()
        if is_first:
            self.wake()

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits."""
        return not self._waiting.answers and not self._waiting.alerts

    @property
    def due_in_s(self) -> float | None:
        """Seconds until `take` should be called; None: nothing waits."""
        due_at = self._due_at
        return None if due_at is None else max(0.0, due_at - time.monotonic())

    def take(self, *, at_once: bool = False) -> tuple[list[Access], list[Alert]] | None:
        """Take as much as one frame holds, if anything is due. The caller sees that it arrives.

        Args:
            at_once: Whether it is due or not.
        """
        with self._lock:
            if self._due_at is None or (not at_once and self.due_in_s):
                return None
            waiting, items, moments = self._waiting, 0, 0
            taken: list[tuple[_Key, list[int]]] = []
            while (
                waiting.answers and len(taken) < MAX_RECORDS and items < MAX_ITEMS and moments < MAX_MOMENTS_PER_FRAME
            ):
                key = next(iter(waiting.answers))
                taken.append((key, waiting.answers.pop(key)))
                items += len(key[7]) // 8
                moments += len(taken[-1][1])
            waiting.items -= items
            alerts, waiting.alerts = waiting.alerts, []
            if not waiting.answers:
                self._due_at = None
        return [_access(key, moments) for key, moments in taken], alerts

    def tell(self, channel: Channel) -> None:
        """Tell the supervisor and the log what was lost, if more was; in the process's main loop."""
        lost, now = self.lost, time.monotonic()
        if lost != self._told_lost and now - self._told_at >= TELL_EVERY_S:
            logger.warning(
                "%d answers are missing from the access log: the writer does not take them", lost - self._told_lost
            )
            self._told_lost, self._told_at = lost, now
            channel.report({"access_lost": lost})

    def _now_us(self) -> int:
        return int(self._clock() * 1_000_000)

    def _add(self, key: _Key, items: int, moment: int) -> bool:
        """Add an answer, or count it as lost; whether it is the first one after a pause."""
        waiting = self._waiting
        moments = waiting.answers.get(key)
        if moments is not None and len(moments) < MAX_MOMENTS:
            moments.append(moment)
        elif (
            moments is None
            and len(waiting.answers) < MAX_WAITING
            and (not waiting.items or waiting.items + items <= MAX_WAITING_ITEMS)
        ):
            waiting.answers[key] = [moment]
            waiting.items += items
        else:
            self.lost += 1
        return self._note_due()

    def _note_due(self) -> bool:
        if self._due_at is not None:
            return False
        self._due_at = time.monotonic() + GATHER_S
        return True


def _access(key: _Key, moments: list[int]) -> Access:
    service, address, peer, certificate, asked, status, matches, packed, instance_uid = key
    items = array("q")
    items.frombytes(packed)
    return Access(
        service=service, address=address, peer=peer, certificate=certificate, asked=asked, status=status,
        matches=matches, item_ids=sorted(set(items)), moments=moments, instance_uid=instance_uid,
    )  # fmt: skip
