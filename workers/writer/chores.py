"""What the writer does besides storing frames: operators' commands, retention, reporting records of old sources.

Lives in the writer. Long work is done in portions: between two of them the writer's loop stores frames, so that a
scanner's report is answered meanwhile.
"""

from __future__ import annotations

import logging
import re
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from pylantir.errors import ClusterChanged, CommandRefused, frames_of
from pylantir.ipc.frames import Frame
from pylantir.store.change.commands import carry_out
from pylantir.store.change.erasure import erase_patient
from pylantir.store.change.residue import clean_files, find_copies
from pylantir.store.change.retention import prune_history, purge_items
from pylantir.store.failures import describe_failure
from pylantir.store.read.listings import find_left_behind
from pylantir.store.schema.engine import reading
from pylantir.store.schema.sqlite_file import sqlite_file
from workers.child.channel import Channel
from workers.writer.database_file import DatabaseFile
from workers.writer.frames import FrameIntake
from workers.writer.membership import Membership
from workers.writer.settings import WriterSettings

PRUNE_EVERY_S = 24 * 3600.0
PRUNE_AGAIN_S = 60.0
LOOK_EVERY_S = 30.0
"""How often the writer checks which items still come from sources that are not enabled."""
_DAY = re.compile(r"\d{8}", re.ASCII)

logger = logging.getLogger(__name__)


class Chores:
    """Commands and other work between two frames.

    Args:
        engine: The database, opened for writing.
        membership: Has the rules, and the sources that this host fetches.
        settings: What the writer needs of the configuration.
        frames: The sources' places in the writer.
        file: The database's file.
        channel: To the supervisor.
        note_trouble: Called when the database cannot be written.
    """

    def __init__(
        self,
        engine: Engine,
        membership: Membership,
        settings: WriterSettings,
        frames: FrameIntake,
        file: DatabaseFile,
        channel: Channel,
        note_trouble: Callable[[Exception], None],
    ) -> None:
        self._engine = engine
        self._membership = membership
        self._settings = settings
        self._frames = frames
        self._file = file
        self._channel = channel
        self._note_trouble = note_trouble
        self._steps: deque[tuple[Frame | None, Iterator[object]]] = deque()
        self._left_behind: dict[str, object] | None = None
        self._look_at = self._prune_at = 0.0

    @property
    def waiting(self) -> bool:
        """Whether a portion of work is waiting."""
        return bool(self._steps)

    def carry_out(self, command: Frame) -> None:
        """Carry out an operator's command, which waits for the answer.

        Raises:
            ClusterChanged: What this writer knew is over; give the same command again after a look.
        """
        number, before, dry_run = command.get("id"), command.get("before"), command.get("dry_run") is True
        if command.get("command") == "purge" and isinstance(before, str) and _DAY.fullmatch(before):
            self._steps.append((command, self._purge_items(before, dry_run=dry_run)))
            return
        if command.get("command") == "purge" and isinstance(command.get("patient"), str):
            self._steps.append((command, self._erase_patient(command, dry_run=dry_run)))
            return
        name = str(command.get("name"))
        try:
            if command.get("command") == "note-access":
                self._frames.accesses.commit(command)
                self._channel.answer(number, text="")
                return
            if command.get("command") == "forget-host":
                text = self._membership.forget(name, dry_run=dry_run)
                self._look_at = 0.0
            elif command.get("command") == "accept":
                self._refuse_on_standby(name)
                text = self._frames.ingest_of(name).accept_removal(dry_run=dry_run)
            elif command.get("command") == "forget":
                text = self._forget_source(command, name, dry_run=dry_run)
            else:
                text = carry_out(self._engine, self._membership.rules, command)
        except CommandRefused as error:
            self._channel.answer(number, error=str(error))
        except ClusterChanged:
            raise
        except SQLAlchemyError as error:
            self._channel.answer(number, error=f"the database takes nothing just now: {describe_failure(error)}")
        except Exception as error:  # noqa: BLE001 - one command that fails is its own failure only
            logger.error("a command cannot be carried out: %s\n%s", describe_failure(error), frames_of(error))  # noqa: TRY400
            self._channel.answer(number, error=f"it failed ({type(error).__name__}); the writer's log says why")
        else:
            logger.info("%s", text)
            self._channel.answer(number, text=text)

    def _refuse_on_standby(self, source: str) -> None:
        host = self._membership.standby_of(source)
        if host:
            raise CommandRefused(f"{source} is fetched by {host}; give the command there")

    def _forget_source(self, command: Frame, source: str, *, dry_run: bool) -> str:
        if others := self._membership.others_with(source):
            raise CommandRefused(
                f"{source} is configured and enabled on {', '.join(others)}; take it out of the configuration there or "
                "disable it, and reload; or, if a host is gone for good, run: pylantir forget-host HOST"
            )
        text = carry_out(self._engine, self._membership.rules, command)
        if not dry_run:
            self._frames.forget(source)
            self._look_at = 0.0
        return text

    def go_on(self) -> None:
        """Do the next portion of long work, and other work that is due."""
        self._begin_pruning()
        if time.monotonic() >= self._look_at:
            self.tell_left_behind()
        if not self._steps:
            return
        command, steps = self._steps[0]
        number = command.get("id") if command else None
        try:
            next(steps)
        except StopIteration as end:
            if command:
                logger.info("%s", end.value)
                self._channel.answer(number, text=end.value)
        except (ClusterChanged, CommandRefused) as error:
            so_far = "; what is done stays done" if isinstance(error, ClusterChanged) else ""
            if command:
                self._channel.answer(number, error=f"{error}{so_far}")
        except SQLAlchemyError as error:
            if command:
                text = f"the database takes nothing just now: {describe_failure(error)}; what is done stays done"
                self._channel.answer(number, error=text)
            else:
                self._prune_at = time.monotonic() + PRUNE_AGAIN_S
            self._note_trouble(error)
        except Exception as error:  # noqa: BLE001 - one command that fails is its own failure only
            logger.error("a command or the retention of history cannot be carried out: %s\n%s",  # noqa: TRY400
                         describe_failure(error), frames_of(error))  # fmt: skip
            if command:
                text = f"it failed ({type(error).__name__}); the writer's log says why"
                self._channel.answer(number, error=text)
        else:
            return
        self._steps.popleft()

    def _purge_items(self, before: str, *, dry_run: bool) -> Generator[None, None, str]:
        said = yield from purge_items(self._engine, before, self._membership.rules, dry_run=dry_run)
        if not dry_run:
            yield from clean_files(self._engine, lambda: False)
        return said

    def _erase_patient(self, command: Frame, *, dry_run: bool) -> Generator[None, None, str]:
        """Erase a patient from the database and its files; return what the operator should know."""
        patient, reason, by = (str(command.get(name) or "") for name in ("patient", "reason", "by"))
        erased = erase_patient(self._engine, patient, reason, self._membership.rules, by=by, dry_run=dry_run)
        if not dry_run:
            # The sources send everything again: what they still give is served again.
            self._frames.forget_all()
            self._look_at = 0.0
            yield
            yield from clean_files(self._engine, lambda: self._file.holds_any(erased.values))
        path = sqlite_file(self._engine)
        copies = [str(copy) for copy in find_copies(path)] if path else []
        kept = f"; copies that may still hold the patient, for you to delete: {', '.join(copies)}" if copies else ""
        return erased.describe(dry_run=dry_run) + kept

    def tell_left_behind(self, *, warn: bool = False) -> None:
        """Tell the supervisor which items still come from sources that are disabled or no longer configured."""
        self._look_at = time.monotonic() + LOOK_EVERY_S
        try:
            with reading(self._engine) as connection:
                left = find_left_behind(connection, self._membership.rules.ranks)
        except SQLAlchemyError as error:
            self._note_trouble(error)
            return
        if left != self._left_behind:
            self._left_behind = left
            self._channel.report({"left_behind": left})
        for source, only_items in left.items() if warn else ():
            logger.warning(
                "source %s is not enabled, but its records still count: %s items are given by it alone; "
                "`pylantir forget %s` withdraws them", source, only_items, source,
            )  # fmt: skip

    def _begin_pruning(self) -> None:
        """Delete history that is older than the configuration keeps, once a day."""
        now = time.monotonic()
        if now < self._prune_at:
            return
        self._prune_at = now + PRUNE_EVERY_S
        self._steps.append((None, self._prune()))

    def _prune(self) -> Iterator[None]:
        for _ in prune_history(
            self._engine, self._membership.rules, self._settings.retention, clock=self._membership.clocks.earlier
        ):
            yield
        yield from clean_files(self._engine, lambda: False)
