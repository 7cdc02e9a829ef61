"""The writer: the only process that writes to the worklist database.

In: frames from the entry queue, commands from the supervisor. Out: committed transactions, then acknowledgements. It
also starts and keeps running without a usable database: it acknowledges only committed frames and tries the others
again.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress

from sqlalchemy.exc import SQLAlchemyError

from pylantir.errors import AlreadyRunning, ClusterChanged, ProtocolError, StoreError, frames_of
from pylantir.ipc.frames import Frame
from pylantir.store.change.rules import restore_items
from pylantir.store.failures import describe_failure, is_passing, keeps_session, lacks_tables
from pylantir.store.schema.engine import open_for_writing
from pylantir.store.schema.sqlite_file import sqlite_file
from pylantir.store.schema.upgrade import prepare_database
from workers.child.bootstrap import Context
from workers.writer.accesses import AccessIntake
from workers.writer.checkpoints import Checkpoints, empty_log
from workers.writer.chores import Chores
from workers.writer.database_file import DatabaseFile
from workers.writer.frames import MAX_TRIES, FrameIntake
from workers.writer.hosts import HostWatch
from workers.writer.integrity import IntegrityCheck
from workers.writer.membership import SIGNS_PER_LEASE, Membership
from workers.writer.queue import EntryQueue, Producer
from workers.writer.settings import WriterSettings
from workers.writer.trouble import DatabaseTrouble

BEAT_EVERY_S = 4.0
BUSY_BEAT_EVERY_S = 1.0
"""The work itself gives the signs of life: after a frame, if the last sign is so long ago."""
DRAIN_S = 2.0
"""How long after the order to end the writer still commits waiting frames."""
HANG_AFTER_S = 300.0
"""The time of the longest transaction: the end of a snapshot that removes very many records."""
UPGRADE_MAY_TAKE_S = 3600.0
"""The time to copy a large file of an earlier version and to decide again about all its records."""
_FRAME_RETRY_S = 0.25
_LOOK_AGAIN_S = 0.25
"""How often the writer looks at another host's writer that stands still with the lock."""

logger = logging.getLogger(__name__)


def run(context: Context, settings: WriterSettings, listener: socket.socket) -> None:
    """Run the writer process; returns after an order to stop, when everything received is committed."""
    os.umask(0o077)
    Writer(context, settings, listener).run()


class Writer:
    """Commits the frames from the entry queue."""

    def __init__(self, context: Context, settings: WriterSettings, listener: socket.socket) -> None:
        self._context = context
        self._settings = settings
        self._listener = listener
        self._trouble = DatabaseTrouble(context.channel.report, settings.lease_s / SIGNS_PER_LEASE)
        self._is_prepared = False
        self._told_depth = 0
        self._tell_depth_at = 0.0
        self._integrity: IntegrityCheck | None = None

    def run(self) -> None:
        """Open the database, however long that takes, and serve until an order to stop."""
        settings = self._settings
        self._engine = open_for_writing(
            settings.db_url, echo=settings.db_echo, host=settings.host, idle_s=settings.lease_s
        )
        self._file = DatabaseFile(self._engine)
        self._membership = Membership(self._engine, settings)
        accesses = AccessIntake(self._engine, settings.access, settings.ae_title, self._context.channel.report)
        self._frames = FrameIntake(self._engine, settings, self._membership, accesses)
        self._chores = Chores(
            self._engine,
            self._membership,
            settings,
            self._frames,
            self._file,
            self._context.channel,
            self._note_trouble,
        )
        queue = EntryQueue(self._listener, self._settings.key, self._greet)
        self._hosts = HostWatch(
            self._membership, self._frames, queue.greet_again, self._context.channel, self._note_trouble,
            lambda: self._trouble.note_recovery(frames_waiting=queue.depth),
        )  # fmt: skip
        queue.watch(self._context.stop, self._context.stop.drain)
        queue.watch(self._context.channel, self._obey)
        self._checkpoints = Checkpoints(self._settings.db_url)
        try:
            if self._prepare(queue):
                self._context.channel.ready()
                if path := sqlite_file(self._engine):
                    self._integrity = IntegrityCheck(path, self._trouble.note_damage)
                self._serve(queue)
        finally:
            queue.close()
            with suppress(SQLAlchemyError):
                self._membership.leave()
            accesses.close()
            if self._integrity:
                self._integrity.close()
            self._checkpoints.close()
            empty_log(self._engine)
            self._engine.dispose()
            self._file.release()

    def _prepare(self, queue: EntryQueue) -> bool:
        """Make the database ready; producers wait in the listener's backlog meanwhile."""
        while not self._must_end():
            self._context.channel.beat(UPGRADE_MAY_TAKE_S)
            try:
                self._file.claim()
                prepare_database(self._engine)
                applied = self._membership.enter()
                restored = restore_items(self._engine, self._membership.rules)
                self._chores.tell_left_behind(warn=True)
                self._file.note_opened()
            except (SQLAlchemyError, StoreError, OSError, AlreadyRunning) as error:
                self._note_trouble(error)
                while not self._must_end() and not self._may_try():
                    self._wait(queue)
            else:
                self._trouble.note_recovery()
                self._is_prepared = True
                self._hosts.tell()
                if applied.changed:
                    logger.info("priorities have changed: %d items decided anew", applied.changed)
                if applied.held:
                    logger.warning(
                        "the rules of this version decide otherwise about the listed exams of %d patients, in a day; "
                        "`pylantir conflicts` shows them", applied.held,
                    )  # fmt: skip
                if restored:
                    logger.warning("%d items were missing from the database, and are there again", restored)
                return True
        return False

    def _serve(self, queue: EntryQueue) -> None:
        end_at: float | None = None
        while True:
            if not self._trouble.text:
                self._chores.go_on()
            self._wait(queue)
            self._check_file()
            if self._may_try():
                self._hosts.watch()
            while self._may_try():
                if end_at is None and self._must_end():
                    end_at = time.monotonic() + DRAIN_S
                taken = queue.take() if end_at is None or time.monotonic() < end_at else None
                if taken is None:
                    break
                self._take_in(queue, *taken)
                queue.wait(0)
                self._give_sign(queue)
                self._hosts.watch()
            # Uncommitted frames are not acknowledged: producers send them again to the next writer.
            if self._must_end() and (queue.depth == 0 or self._trouble.text or (end_at and time.monotonic() >= end_at)):
                return

    def _give_sign(self, queue: EntryQueue) -> None:
        """Say that the loop is at work, and how many frames wait."""
        now, channel = time.monotonic(), self._context.channel
        channel.beat(HANG_AFTER_S, at_most_every_s=BUSY_BEAT_EVERY_S)
        if queue.depth != self._told_depth and now >= self._tell_depth_at:
            self._told_depth, self._tell_depth_at = queue.depth, now + BUSY_BEAT_EVERY_S
            channel.report({"queue_depth": self._told_depth})

    def _check_file(self) -> None:
        try:
            self._file.check()
        except StoreError as error:
            self._context.channel.report({"database": str(error)})
            raise

    def _wait(self, queue: EntryQueue) -> None:
        """Wait for frames, commands or a signal, or for the moment of the next attempt."""
        self._give_sign(queue)
        now, retry_at = time.monotonic(), queue.next_retry()
        if self._trouble.text and now < self._trouble.retry_at:
            pause_s = self._trouble.retry_at - now
        elif self._trouble.text:
            # Frames wait for nothing; what else has failed is tried again when it is due.
            pause_s = 0.0 if queue.depth else min(_LOOK_AGAIN_S, self._membership.next_at - now)
        elif retry_at is not None:
            pause_s = retry_at - now
        elif queue.depth or self._chores.waiting or self._must_end():
            # Frames may have come while the database was being prepared.
            pause_s = 0.0
        else:
            # A depth not reported yet is reported soon.
            pause_s = BEAT_EVERY_S if queue.depth == self._told_depth else BUSY_BEAT_EVERY_S
        if not self._trouble.text:
            pause_s = min(pause_s, self._membership.next_at - now)
        queue.wait(max(0.0, min(pause_s, _FRAME_RETRY_S if self._must_end() else BEAT_EVERY_S)))

    def _may_try(self) -> bool:
        """Whether the database may take something now."""
        if time.monotonic() < self._trouble.retry_at:
            return False
        try:
            if not (self._trouble.is_locked_out and self._membership.is_lock_stuck()):
                return True
        except SQLAlchemyError as error:
            self._note_trouble(error)
            return False
        # Do not queue for the lock: the wait would last beyond the moment when that writer may be ended.
        self._trouble.retry_at = time.monotonic() + _LOOK_AGAIN_S
        return False

    def _must_end(self) -> bool:
        return self._context.stop.is_set or self._context.channel.supervisor_gone

    def _take_in(self, queue: EntryQueue, producer: Producer, frame: Frame) -> None:
        self._check_file()
        if producer.source and self._membership.standby_of(producer.source):
            # Its worker has been told, or will be: what it sent before that counts no more.
            queue.finish(producer)
            return
        try:
            answer = self._frames.commit(producer, frame)
        except ProtocolError as error:
            queue.drop(producer, str(error))
        except ClusterChanged as change:
            self._hosts.adapt(change)
        # A failure that one producer's frame causes must not stop the frames of the others.
        except Exception as error:  # noqa: BLE001
            if is_passing(error):
                self._note_trouble(error)
            else:
                self._note_failure(queue, producer, frame, error)
        else:
            self._trouble.note_recovery()
            # Acknowledge only now, after the commit.
            producer.answer(answer)
            queue.finish(producer)
            self._checkpoints.note_commit()

    def _note_failure(self, queue: EntryQueue, producer: Producer, frame: Frame, error: Exception) -> None:
        """Retry a frame that itself causes a failure a few times, while others go on; then let its cycle fail."""
        producer.tries += 1
        # The message may quote a patient: log only the stack frames.
        logger.error("a frame of %s cannot be stored, attempt %d of %d: %s\n%s",
                     producer.label, producer.tries, MAX_TRIES, describe_failure(error), frames_of(error))  # fmt: skip
        if producer.tries < MAX_TRIES:
            producer.held_until = time.monotonic() + _FRAME_RETRY_S
            return
        producer.answer(self._frames.give_up(producer, frame, error))
        queue.finish(producer)

    def _greet(self, producer: Producer) -> Mapping[str, object] | None:
        """Make a source's welcome with its last success; None: the database cannot be read at present."""
        if not self._is_prepared:
            return None
        last_success = None
        if producer.source is not None:
            try:
                last_success = self._frames.find_last_success(producer.source)
            except (SQLAlchemyError, OSError) as error:
                self._note_trouble(error)
                return None
        standby = self._membership.standby_of(producer.source) if producer.source else None
        return {"kind": "welcome", "last_success": last_success, "standby": standby}

    def _obey(self) -> None:
        for message in self._context.channel.receive():
            if message.get("kind") == "digests" and isinstance(digests := message.get("digests"), dict):
                self._membership.use_digests(digests)
            elif message.get("kind") == "command":
                try:
                    self._chores.carry_out(message)
                except ClusterChanged as change:
                    self._hosts.adapt(change)
                    self._obey_again(message)

    def _obey_again(self, command: Frame) -> None:
        try:
            self._chores.carry_out(command)
        except ClusterChanged as change:
            self._context.channel.answer(command.get("id"), error=f"{change}; give the command again")

    def _note_trouble(self, error: Exception) -> None:
        """Note that the database cannot be written; everything waits until it can.

        Raises:
            StoreError: Tables or columns are missing; the next writer makes them.
        """
        if self._is_prepared and lacks_tables(error):
            msg = f"the database is not as this writer made it ({describe_failure(error)}); it is opened anew"
            self._context.channel.report({"database": msg})
            raise StoreError(msg) from None
        self._trouble.note(error)
        # A file that was repaired in its place must be checked again.
        self._file.forget_sides()
        if not self._trouble.is_locked_out:
            self._membership.note_outage()
            # Otherwise the session stays: other hosts would take its end for this one's.
            if not keeps_session(error):
                self._engine.dispose()
