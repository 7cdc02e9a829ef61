"""Answering worklist queries: C-FIND requests in, pending responses and a final status out.

Lives in the server process; called from association threads, several at once. It knows no database, and logs no
identifier: that is patient data.
"""

from __future__ import annotations

import datetime
import logging
import time
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset

from pylantir.dicom.find.attributes import keywords_by_field
from pylantir.dicom.find.encode_responses import ResponseEncoder, Row
from pylantir.dicom.find.encode_values import Writing
from pylantir.dicom.find.matching import ParsedQuery, decode_identifier, parse_query
from pylantir.dicom.find.serving import for_station, limited, profile_limits, serving_limits
from pylantir.dicom.net.commands import Ending
from pylantir.dicom.net.services import FindExchange
from pylantir.dicom.text.charset import CharacterSet, Loss, charset_name
from pylantir.errors import InvalidQuery, PylantirError, StoreError, frames_of
from pylantir.query import WorklistQuery
from pylantir.settings import DicomSettings

logger = logging.getLogger(__name__)

Find = Callable[[WorklistQuery, Sequence[str]], Iterable[Sequence[Row]]]
"""Gives the items that match, in the order to send them: of each the values of the named fields, in batches.

May raise StoreError; what has a `close` is closed.
"""

SUCCESS = 0x0000
CANCELLED = 0xFE00
PENDING = 0xFF00
PENDING_UNSUPPORTED_KEYS = 0xFF01
OUT_OF_RESOURCES = 0xA700
IDENTIFIER_MISMATCH = 0xA900
UNABLE_TO_PROCESS = 0xC001

SHOWN_ITEMS = 10
_REMEMBERED_WARNINGS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What came of one query.

    Attributes:
        asked: Keywords of the keys that had to match.
        status: Of the last response; None: the peer did not wait for it.
        matches: How many items were sent.
        item_ids: Which.
    """

    asked: Sequence[str]
    status: int | None
    matches: int
    item_ids: Sequence[int]


class QueryService:
    """The C-FIND side of the Modality Worklist SOP class."""

    def __init__(
        self,
        settings: DicomSettings,
        find: Find,
        *,
        today: Callable[[], datetime.date] = datetime.date.today,
        on_answer: Callable[[FindExchange, Answered], None] = lambda _exchange, _answered: None,
    ) -> None:
        """Prepare to answer.

        Args:
            settings: What is served, to whom.
            find: Asked once per query, from the association's thread.
            today: The site's calendar.
            on_answer: Called once per query, after its answer. It must not wait.
        """
        self._on_answer = on_answer
        self._settings = settings
        self._find = find
        self._today = today
        self._told: dict[tuple[str, str], object] = {}

    def answer(self, exchange: FindExchange) -> None:
        """Answer one C-FIND request, and log it in one line."""
        started = time.monotonic()
        answering = _Answering(exchange, self._settings, self._today())
        ending = answering.run(self._find)
        self._tell_unfit(exchange.caller, answering.unfit)
        is_told = ending is not None and exchange.conclude(ending)
        status = ending.status if ending is not None and is_told else None
        answered = Answered(
            asked=answering.asked, status=status, matches=answering.sent, item_ids=answering.shown,
        )  # fmt: skip
        self._on_answer(exchange, answered)
        outcome = f"status 0x{ending.status:04X}" if ending is not None and is_told else "abandoned"
        elapsed_ms = (time.monotonic() - started) * 1000
        logger.info("query from %s: %d matches, %s, %.0f ms", exchange.caller, answering.sent, outcome, elapsed_ms)

    def _tell_unfit(self, caller: str, unfit: Mapping[str, list[object]]) -> None:
        """Warn of items that a scanner does not get; once only for a scanner that asks every minute."""
        for field, items in unfit.items():
            if self._told.get((caller, field)) == items:
                continue
            if len(self._told) >= _REMEMBERED_WARNINGS:
                self._told.clear()
            self._told[caller, field] = items
            charset = charset_name(self._settings.profile_of(caller).charset)
            logger.warning(
                "%d items are not sent to %s: %s cannot be written exactly in %s; items %s",
                len(items), caller, field, charset, _shown(items),
            )  # fmt: skip


class _Answering:
    """The course of one query."""

    def __init__(self, exchange: FindExchange, settings: DicomSettings, today: datetime.date) -> None:
        self.sent = 0
        self.asked: Sequence[str] = ()
        self.shown = array("q")
        self.unfit: dict[str, list[object]] = {}
        self._exchange = exchange
        self._settings = settings
        self._profile = settings.profile_of(exchange.caller)
        self._today = today
        self._losses: dict[Loss, list[object]] = {}

    def run(self, find: Find) -> Ending | None:
        """Send the matches; return the last response, or None if the peer has gone."""
        caller = self._exchange.caller
        try:
            return self._send_matches(parse_query(_decoded(self._exchange)), find)
        except InvalidQuery as error:
            # The caller that writes it to the connection logs it.
            return Ending(status=IDENTIFIER_MISMATCH, comment=str(error), tag=error.tag)
        except StoreError as error:
            logger.error("query from %s failed: %s", caller, error)  # noqa: TRY400 - the reason says it all
            return Ending(status=OUT_OF_RESOURCES, comment="the worklist cannot be read just now")
        except MemoryError as error:
            _log_failure(caller, error)
            return Ending(status=OUT_OF_RESOURCES, comment="the worklist cannot be read just now")
        except Exception as error:  # noqa: BLE001 - without a failure status, the scanner would take the matches so far for all of them
            _log_failure(caller, error)
            return Ending(status=UNABLE_TO_PROCESS, comment="internal error")
        finally:
            _log_losses(caller, self._profile.charset, self._losses)

    def _send_matches(self, parsed: ParsedQuery, find: Find) -> Ending | None:
        exchange, profile = self._exchange, self._profile
        self.asked = asked_keywords(parsed.query)
        limits = serving_limits(parsed.query, self._settings.serving, self._today)
        limits += profile_limits(profile, exchange.caller)
        charset = CharacterSet(profile.charset) if profile.charset else None
        writing = Writing(
            explicit_vr=exchange.explicit_vr,
            station_aet=exchange.caller,
            send_empty=profile.required_empty,
            charset=charset,
        )
        encoder = ResponseEncoder(parsed, writing)
        pending = PENDING_UNSUPPORTED_KEYS if parsed.unsupported else PENDING
        batches = find(limited(for_station(parsed.query, exchange.caller), limits), encoder.fields)
        try:
            for batch in batches:
                rows = batch
                while rows:
                    if exchange.is_cancelled():
                        return Ending(status=CANCELLED)
                    if exchange.is_over():
                        return None
                    room = len(rows) if profile.max_answers is None else profile.max_answers - self.sent
                    if not room:
                        return self._too_many()
                    self._send(rows[:room], encoder, pending)
                    rows = rows[room:]
            return Ending(status=SUCCESS)
        finally:
            close = getattr(batches, "close", None)
            if close is not None:
                close()

    def _send(self, rows: Sequence[Row], encoder: ResponseEncoder, status: int) -> None:
        batch = encoder.encode(rows)
        for item_id, field in batch.left_out:
            logger.warning(
                "not sent to %s: %s: item %s has none, and may not be sent without",
                self._exchange.caller, field, item_id,
            )  # fmt: skip
        for item_id, field in batch.unfit:
            self.unfit.setdefault(field, []).append(item_id)
        for loss, item_ids in batch.losses.items():
            self._losses.setdefault(loss, []).extend(item_ids)
        # Without empty attributes, there may be nothing to say of an item.
        identifiers = [identifier for identifier in batch.identifiers if identifier]
        self._exchange.send(identifiers, status)
        self.sent += len(identifiers)
        self.shown.extend(batch.items_of(rows))

    def _too_many(self) -> Ending:
        truncates = self._settings.serving.when_too_many == "truncate"
        ending = "the rest is left out" if truncates else "answered with a failure"
        caller, sent = self._exchange.caller, self.sent
        logger.warning("query from %s matches more than its max_answers of %d: %s", caller, sent, ending)
        if truncates:
            return Ending(status=SUCCESS)
        return Ending(status=OUT_OF_RESOURCES, comment=f"more than {sent} matches: narrow the query")


def asked_keywords(query: WorklistQuery) -> list[str]:
    """List the keywords of the keys that a query matches."""
    known = keywords_by_field()
    return [known.get(name, name) for name in query.fields]


def _log_losses(caller: str, charset: tuple[str, ...], losses: Mapping[Loss, list[object]]) -> None:
    """Log in one line per query what the scanner's character set could not hold, without any of it."""
    said = (
        (Loss.TRANSLITERATED, logging.INFO, "written in Latin letters"),
        (Loss.INCOMPLETE, logging.WARNING, 'incomplete, with "?" for what has no Latin letters'),
    )
    for loss, level, text in said:
        items = losses.get(loss, [])
        if items:
            name = charset_name(charset)
            logger.log(level, "%d answers to %s in %s: %s; items %s", len(items), caller, name, text, _shown(items))


def _shown(items: Sequence[object]) -> str:
    return ", ".join(map(str, items[:SHOWN_ITEMS])) + (", …" if len(items) > SHOWN_ITEMS else "")


def _decoded(exchange: FindExchange) -> Dataset:
    try:
        return decode_identifier(exchange.identifier, explicit_vr=exchange.explicit_vr)
    except Exception as error:  # noqa: BLE001 - pydicom decodes here, and a stranger's bytes raise anything
        raise InvalidQuery(0, f"the identifier cannot be decoded ({type(error).__name__})") from None


def _log_failure(caller: str, error: BaseException) -> None:
    """Log where an exception was raised, and its text only if it is ours: others quote patient data."""
    text = str(error) if isinstance(error, PylantirError) else type(error).__name__
    logger.error("query from %s failed: %s\n%s", caller, text, frames_of(error))
