"""The writer: the only process that writes to the worklist database.

In: frames from the entry queue, commands from the supervisor. Out: committed transactions, then acknowledgements. It
starts without a usable database and goes on without one: what is not committed is not acknowledged, and tried again.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress

from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from pylantir.entry import RECORD_ID_FIELD, WORKLIST_FIELDS
from pylantir.errors import AlreadyRunning, CommandRefused, ProtocolError, StoreError
from pylantir.store.commands import apply_rules, forget_source, set_status
from pylantir.store.cycles import CycleEnd, EntryBatch, EntryRecord
from pylantir.store.engine import open_for_writing, sqlite_path
from pylantir.store.ingest import SourceIngest, is_temporary
from pylantir.store.quarantine import Rejection
from pylantir.store.reconcile import Rules
from pylantir.store.upgrade import prepare_database
from pylantir.wire.frames import Frame
from workers.bootstrap import Context
from workers.entry_queue import EntryQueue, Producer
from workers.locks import FileLock
from workers.writer_settings import WriterSettings

BEAT_EVERY_S = 10.0
HANG_AFTER_S = 120.0
_RETRY_CAP_S = 5.0
_KNOWN_FIELDS = frozenset(WORKLIST_FIELDS) | {RECORD_ID_FIELD}

logger = logging.getLogger(__name__)


def run(context: Context, settings: WriterSettings, listener: socket.socket) -> None:
    """The body of the writer process; returns when it was told to stop and everything received is committed."""
    os.umask(0o077)
    Writer(context, settings, listener).run()


class Writer:
    """Commits what the entry queue brings."""

    def __init__(self, context: Context, settings: WriterSettings, listener: socket.socket) -> None:
        self._context = context
        self._settings = settings
        self._rules = Rules(ranks=settings.ranks, match_on=settings.match_on, max_minutes=settings.max_minutes)
        self._listener = listener
        self._ingests: dict[str, SourceIngest] = {}
        self._retry_delay_s = 0.0
        self._retry_at = 0.0
        self._trouble: str | None = None

    def run(self) -> None:
        """Open the database, however long that takes, and serve until told to stop."""
        path = sqlite_path(self._settings.db_url)
        lock = FileLock(path.with_name(path.name + ".lock")) if path else None
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
        if lock:
            try:
                lock.acquire("another writer uses this database")
            except AlreadyRunning as error:
                self._context.channel.report({"database": str(error)})
                raise
        self._engine = open_for_writing(self._settings.db_url, echo=self._settings.db_echo)
        queue = EntryQueue(self._listener, self._settings.key, self._greet)
        queue.watch(self._context.stop, self._context.stop.drain)
        queue.watch(self._context.channel, self._obey)
        try:
            if self._prepare(queue):
                self._context.channel.ready()
                self._serve(queue)
        finally:
            queue.close()
            _checkpoint(self._engine)
            self._engine.dispose()
            if lock:
                lock.release()

    def _prepare(self, queue: EntryQueue) -> bool:
        """Make the database ready; producers wait in the listener's backlog meanwhile."""
        while not self._must_end():
            try:
                prepare_database(self._engine)
                changed = apply_rules(self._engine, self._rules)
            except (SQLAlchemyError, OSError) as error:
                self._note_trouble(error)
                self._wait(queue)
            else:
                self._note_recovery()
                if changed:
                    logger.info("priorities have changed: %d items decided anew", changed)
                return True
        return False

    def _serve(self, queue: EntryQueue) -> None:
        while True:
            self._wait(queue)
            stopping = self._must_end()
            while time.monotonic() >= self._retry_at:
                taken = queue.take()
                if taken is None:
                    break
                self._take_in(queue, *taken)
                queue.wait(0)
            if stopping and (queue.depth == 0 or self._trouble):
                return

    def _wait(self, queue: EntryQueue) -> None:
        channel = self._context.channel
        channel.beat(HANG_AFTER_S, at_most_every_s=BEAT_EVERY_S)
        pause = max(0.0, self._retry_at - time.monotonic())
        if self._must_end():
            queue.wait(0)
        elif self._trouble:
            time_left = time.monotonic() + pause
            while not self._must_end() and time.monotonic() < time_left:
                queue.wait(time_left - time.monotonic())
        else:
            queue.wait(BEAT_EVERY_S)

    def _must_end(self) -> bool:
        return self._context.stop.is_set or self._context.channel.supervisor_gone

    def _take_in(self, queue: EntryQueue, producer: Producer, frame: Frame) -> None:
        try:
            answer = self._commit(producer, frame)
        except ProtocolError as error:
            queue.drop(producer, str(error))
        except (SQLAlchemyError, OSError) as error:
            if isinstance(error, SQLAlchemyError) and not is_temporary(error):
                raise
            self._note_trouble(error)
        else:
            self._note_recovery()
            # Only now: what is acknowledged is committed.
            producer.answer(answer)
            queue.finish(producer)

    def _commit(self, producer: Producer, frame: Frame) -> Frame:
        if producer.role != "source" or producer.source is None:
            msg = f"{producer.role} has nothing to send"
            raise ProtocolError(msg)
        ingest = self._ingest_of(producer.source)
        answer: Frame = {"kind": "ack", "cycle": frame.get("cycle"), "seq": frame.get("seq")}
        if frame.get("kind") == "batch":
            ingest.apply_batch(read_batch(frame))
        elif frame.get("kind") == "end":
            summary = ingest.finish_cycle(read_end(frame))
            answer["summary"] = {
                "counts": dict(summary.counts),
                "entries": summary.entries,
                "complete": summary.complete,
                "unreadable": summary.unreadable,
                "held": summary.held.as_json() if summary.held else None,
            }
        else:
            msg = "a frame of unknown kind"
            raise ProtocolError(msg)
        return answer

    def _greet(self, producer: Producer) -> Mapping[str, object]:
        """Tell a source where it stands; a new incarnation's cycle begins anew."""
        last_success = None
        if producer.source is not None:
            try:
                last_success = self._ingest_of(producer.source).find_last_success()
            except SQLAlchemyError as error:
                self._note_trouble(error)
                msg = "the database does not answer just now"
                raise ProtocolError(msg) from None
        return {"kind": "welcome", "last_success": last_success}

    def _ingest_of(self, source: str) -> SourceIngest:
        if source not in self._ingests:
            keep = source in self._settings.keep_missing
            self._ingests[source] = SourceIngest(self._engine, source, self._rules, keep_missing=keep)
        return self._ingests[source]

    def _obey(self) -> None:
        for message in self._context.channel.receive():
            if message.get("kind") == "command":
                self._carry_out(message)

    def _carry_out(self, command: Frame) -> None:
        """Do what an operator asked for; the command waits for the answer."""
        channel, number, name = self._context.channel, command.get("id"), str(command.get("name"))
        try:
            if command.get("command") == "accept":
                self._ingest_of(name).accept_removal()
                text = f"{name}: the next fetch may cancel whatever is missing; it begins now"
            elif command.get("command") == "forget":
                text = forget_source(self._engine, name, self._rules)
                self._ingests.pop(name, None)
            else:
                item, status, reason = command.get("item"), command.get("status"), command.get("reason")
                if type(item) is not int:
                    channel.answer(number, error="the number of an item is needed; `pylantir query-db` shows it")
                    return
                text = set_status(self._engine, item, str(status), str(reason or ""), self._rules)
        except CommandRefused as error:
            channel.answer(number, error=str(error))
        except SQLAlchemyError as error:
            channel.answer(number, error=f"the database takes nothing just now: {describe_trouble(error)}")
        else:
            logger.info("%s", text)
            channel.answer(number, text=text)

    def _note_trouble(self, error: Exception) -> None:
        """Remember that the database takes nothing; said once in the log, shown in `status` until it is over."""
        what = describe_trouble(error)
        if what != self._trouble:
            logger.error("the database takes nothing, everything waits: %s", what)
            self._context.channel.report({"database": what})
        self._trouble = what
        self._retry_delay_s = min(max(0.25, 2 * self._retry_delay_s), _RETRY_CAP_S)
        self._retry_at = time.monotonic() + self._retry_delay_s

    def _note_recovery(self) -> None:
        if self._trouble:
            logger.info("the database works again")
            self._context.channel.report({"database": None})
        self._trouble = None
        self._retry_delay_s = self._retry_at = 0.0


def describe_trouble(error: Exception) -> str:
    """Tell what is wrong with the database, without the statement and its values, which are patient data."""
    origin = getattr(error, "orig", None)
    if isinstance(error, StoreError | OSError):
        return str(error)
    return f"{type(origin or error).__name__}: {str(origin).splitlines()[0]}" if origin else type(error).__name__


def read_batch(frame: Frame) -> EntryBatch:
    """Check a batch as it came from a source.

    Raises:
        ProtocolError: It is none.
    """
    cycle, seq, started_at = _read_position(frame)
    records, present, rejected = (frame.get(name, []) for name in ("records", "present", "rejected"))
    if not (isinstance(records, list) and isinstance(present, list) and isinstance(rejected, list)):
        msg = "a malformed batch"
        raise ProtocolError(msg)
    return EntryBatch(
        cycle=cycle,
        seq=seq,
        started_at=started_at,
        snapshot=frame.get("snapshot") is True,
        records=[_read_record(record) for record in records],
        present=[_text(key) for key in present],
        rejected=[_read_rejection(rejection) for rejection in rejected],
    )


def read_end(frame: Frame) -> CycleEnd:
    """Check the end of a cycle as it came from a source.

    Raises:
        ProtocolError: It is none.
    """
    cycle, seq, started_at = _read_position(frame)
    error = frame.get("error")
    return CycleEnd(
        cycle=cycle,
        seq=seq,
        started_at=started_at,
        complete=frame.get("complete") is True,
        error=None if error is None else _text(error)[:2000],
    )


def _read_position(frame: Frame) -> tuple[str, int, str]:
    seq = frame.get("seq")
    if type(seq) is not int or seq < 1:
        msg = "a frame without its number"
        raise ProtocolError(msg)
    return _text(frame.get("cycle")), seq, _text(frame.get("started_at"))


def _read_record(record: object) -> EntryRecord:
    if isinstance(record, list) and len(record) == 3:
        key, digest, fields = record
        if (
            type(key) is str
            and type(digest) is str
            and type(fields) is dict
            and fields.keys() <= _KNOWN_FIELDS
            and fields.get("patient_id")
            and fields.get("scheduled_start_date")
            and all(type(value) is str for value in fields.values())
        ):
            return _text(key), _text(digest), fields
    msg = "a malformed record"
    raise ProtocolError(msg)


def _read_rejection(rejection: object) -> Rejection:
    if not (isinstance(rejection, list) and len(rejection) == 5):
        msg = "a malformed rejection"
        raise ProtocolError(msg)
    key, name, reason, patient_id, unreadable = rejection
    owner = None if patient_id is None else _text(patient_id)
    return Rejection(_text(key), _text(name), _text(reason), owner, unreadable is True)


def _text(value: object) -> str:
    if type(value) is not str:
        msg = "a number or an object where text belongs"
        raise ProtocolError(msg)
    # Half a character, as a careless plugin may give it, cannot be stored.
    return value.encode("utf-8", "replace").decode("utf-8")


def _checkpoint(engine: Engine) -> None:
    """Move the write-ahead log into the database file, so that a copy of the file alone is whole."""
    if engine.dialect.name == "sqlite":
        with suppress(SQLAlchemyError), engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))
