"""Answering worklist queries: C-FIND requests in, pending responses and a final status out.

Lives in the server process; called from association threads, several at once. It knows no database, and logs no
identifier: that is patient data.
"""

from __future__ import annotations

import datetime
import logging
import time
import traceback
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import closing

from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.association import Association

from pylantir.dicom.charset import CharacterSet, Loss
from pylantir.dicom.encoding import encode_response, transcode
from pylantir.dicom.matching import ParsedQuery, parse_query
from pylantir.dicom.serving import limited, profile_limits, serving_limits
from pylantir.errors import InvalidQuery, PylantirError, RecordRejected, StoreError
from pylantir.query import WorklistQuery
from pylantir.settings import DicomSettings

logger = logging.getLogger(__name__)

Find = Callable[[WorklistQuery], Iterable[Mapping[str, object]]]
"""Gives the items that match, in the order to send them. May raise StoreError; what has a `close` is closed."""
Answers = Generator[tuple[int | Dataset, Dataset | None], None, None]

SUCCESS = 0x0000
CANCELLED = 0xFE00
PENDING = 0xFF00
PENDING_UNSUPPORTED_KEYS = 0xFF01
OUT_OF_RESOURCES = 0xA700
IDENTIFIER_MISMATCH = 0xA900
UNABLE_TO_PROCESS = 0xC001

SHOWN_ITEMS = 10
RESPONSES_AHEAD = 32
"""So many responses may wait to be sent: bounds the memory of a query, and lets a C-CANCEL in."""


class QueryService:
    """The C-FIND side of the Modality Worklist SOP class."""

    def __init__(
        self, settings: DicomSettings, find: Find, *, today: Callable[[], datetime.date] = datetime.date.today
    ) -> None:
        """Prepare to answer.

        Args:
            settings: What is served, to whom.
            find: Asked once per query, from the association's thread.
            today: The site's calendar.
        """
        self._settings = settings
        self._find = find
        self._today = today

    def answer(self, event: evt.Event) -> Answers:
        """Answer one C-FIND request, and log it in one line."""
        started = time.monotonic()
        caller = event.assoc.requestor.ae_title
        matches = 0
        outcome = "abandoned"
        try:
            with closing(self._answers(event, caller)) as answers:
                for status, identifier in answers:
                    if identifier is None:
                        outcome = f"status 0x{status if isinstance(status, int) else status.Status:04X}"
                    else:
                        matches += 1
                    yield status, identifier
        finally:
            elapsed_ms = (time.monotonic() - started) * 1000
            logger.info("query from %s: %d matches, %s, %.0f ms", caller, matches, outcome, elapsed_ms)

    def _answers(self, event: evt.Event, caller: str) -> Answers:
        try:
            parsed = parse_query(_decoded_identifier(event))
            yield from self._matches(event, parsed, caller)
        except InvalidQuery as error:
            logger.warning("query from %s refused: element %08X: %s", caller, error.tag, error)
            yield _failure(IDENTIFIER_MISMATCH, str(error), error.tag), None
        except (StoreError, MemoryError) as error:
            _log_failure(caller, error)
            yield _failure(OUT_OF_RESOURCES, "the worklist cannot be read just now"), None
        except Exception as error:  # noqa: BLE001 - without an answer of ours the library would say "success"
            _log_failure(caller, error)
            yield _failure(UNABLE_TO_PROCESS, "internal error"), None

    def _matches(self, event: evt.Event, parsed: ParsedQuery, caller: str) -> Answers:
        settings, profile = self._settings, self._settings.profile_of(caller)
        limits = serving_limits(parsed.query, settings.serving, self._today()) + profile_limits(profile, caller)
        pending = PENDING_UNSUPPORTED_KEYS if parsed.unsupported else PENDING
        charset = CharacterSet(profile.charset) if profile.charset else None
        losses: dict[Loss, list[object]] = {Loss.TRANSLITERATED: [], Loss.INCOMPLETE: []}
        sent = 0
        rows = self._find(limited(parsed.query, limits))
        try:
            for row in rows:
                if event.is_cancelled:
                    yield CANCELLED, None
                    return
                if sent == profile.max_answers:
                    yield self._too_many(caller, sent), None
                    return
                try:
                    response = encode_response(row, parsed, station_aet=caller, send_empty=profile.required_empty)
                except RecordRejected as error:
                    logger.warning("not sent to %s: %s", caller, error)
                    continue
                loss = transcode(response, charset) if charset else Loss.NONE
                if loss is not Loss.NONE:
                    losses[loss].append(row.get("id"))
                yield pending, response
                sent += 1
                if sent % RESPONSES_AHEAD == 0:
                    _let_peer_catch_up(event.assoc)
            yield SUCCESS, None
        finally:
            _log_losses(caller, profile.charset, losses)
            close = getattr(rows, "close", None)
            if close is not None:
                close()

    def _too_many(self, caller: str, sent: int) -> int | Dataset:
        truncates = self._settings.serving.when_too_many == "truncate"
        ending = "the rest is left out" if truncates else "answered with a failure"
        logger.warning("query from %s matches more than its max_answers of %d: %s", caller, sent, ending)
        return SUCCESS if truncates else _failure(OUT_OF_RESOURCES, f"more than {sent} matches: narrow the query")


def _log_losses(caller: str, charset: tuple[str, ...], losses: Mapping[Loss, list[object]]) -> None:
    """Log in one line per query what the scanner's character set could not hold, without any of it."""
    said = (
        (Loss.TRANSLITERATED, logging.INFO, "written in Latin letters"),
        (Loss.INCOMPLETE, logging.WARNING, 'incomplete, with "?" for what has no Latin letters'),
    )
    for loss, level, text in said:
        items = losses[loss]
        if items:
            shown = ", ".join(map(str, items[:SHOWN_ITEMS])) + (", …" if len(items) > SHOWN_ITEMS else "")
            logger.log(
                level, "%d answers to %s in %s: %s; items %s", len(items), caller, "\\".join(charset), text, shown
            )


def _decoded_identifier(event: evt.Event) -> Dataset:
    try:
        return event.identifier
    except Exception as error:  # noqa: BLE001 - pydicom decodes here, and a stranger's bytes raise anything
        raise InvalidQuery(0, f"the identifier cannot be decoded ({type(error).__name__})") from None


def _failure(status: int, comment: str, tag: int = 0) -> Dataset:
    response = Dataset()
    response.Status = status
    response.ErrorComment = comment[:64]
    if tag:
        response.OffendingElement = tag
    return response


def _log_failure(caller: str, error: BaseException) -> None:
    """Log where an exception was raised, and its text only if it is ours: others quote patient data."""
    text = str(error) if isinstance(error, PylantirError) else type(error).__name__
    frames = "".join(traceback.format_tb(error.__traceback__))
    logger.error("query from %s failed: %s\n%s", caller, text, frames.rstrip())


def _let_peer_catch_up(association: Association) -> None:
    """Wait until what was handed to the sending thread is sent, or the association is over."""
    queue = association.dul.to_provider_queue
    with queue.not_full:
        while queue.queue and association.dul.is_alive() and not association.acse.is_aborted():
            queue.not_full.wait(timeout=0.1)
