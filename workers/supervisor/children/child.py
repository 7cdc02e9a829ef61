"""One supervised process as the supervisor sees it: spawned, listened to, stopped, killed.

Lives in the supervisor. The lifecycle decides when what is due; this module does it. A child's messages give values
for `status` and the deadline of the next sign of life, nothing more.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator, Mapping

from pylantir.errors import ExitStatus, ProtocolError
from pylantir.ipc.frames import Frame
from pylantir.settings import LogSettings
from workers.child.bootstrap import ChildSpec
from workers.supervisor.children import lifecycle
from workers.supervisor.children.incarnation import Incarnation, describe_exit
from workers.supervisor.children.lifecycle import Action, Lifecycle, State, next_action, next_deadline, prove_useful
from workers.supervisor.children.news import News
from workers.supervisor.children.output import PRINTED, ChildOutput, Heard
from workers.supervisor.children.resources import MEASURE_EVERY_S, is_far_over, lacks_processor, resident_mb
from workers.supervisor.children.roles import Role
from workers.writer.queue import make_token

USEFUL_AFTER_S = 5.0
RECYCLE_GRACE_S = 3.0
UNHEARD_S = 1.0
"""An ending process closes its channel shortly before; one that still runs after this time can no longer be heard."""
_MAX_RESULTS = 100

logger = logging.getLogger(__name__)


class Child:
    """A role's incarnations, one after the other.

    Args:
        role: What to run, and how.
        key: This run's key for the producers' tokens.
        log: Form and level of its log.
        generations: Numbers for the incarnations, shared by all children of this run: a source that is removed from
            the configuration and added again must not look older to the writer than before.
        now: Monotonic seconds.
        log_path: The log file, if there is one.
    """

    def __init__(
        self,
        role: Role,
        key: bytes,
        log: LogSettings,
        generations: Iterator[int],
        now: float,
        log_path: str | None = None,
    ) -> None:
        self.role = role
        self.life = Lifecycle(since=now)
        self.news = News(now)
        self.last_exit: str | None = None
        self.last_words: tuple[str, ...] = ()
        self.start_error: str | None = None
        self.recycled = 0
        self._first_due: float | None = None
        self._measure_at: float | None = None
        self._unheard_at: float | None = None
        self._output = ChildOutput(of_plugin=role.plugin is not None)
        self._results: list[Frame] = []
        self._key = key
        self._log = log
        self._log_path = log_path
        self._generations = generations
        self._process: Incarnation | None = None

    @property
    def pid(self) -> int | None:
        """The process id, while the process exists."""
        return self._process.pid if self._process else None

    def deadlines(self, now: float, *, may_restart: bool) -> Iterator[float]:
        """Yield the moments when the supervisor must act on this child even if it sends nothing."""
        moments = (
            next_deadline(self.life, may_restart=may_restart),
            self._measure_at,
            self._unheard_at,
            self._output.deadline(now),
        )
        for moment in moments:
            if moment is not None:
                yield moment

    def filenos(self, now: float) -> Iterator[int]:
        """What the supervisor's loop should wait for."""
        yield from self._output.filenos(now)
        if self._process:
            yield from self._process.filenos()

    def spawn(self, now: float) -> None:
        """Start an incarnation."""
        self.life = lifecycle.spawned(self.life, now)
        try:
            self._process = self._start()
        except Exception as error:  # last resort: a child that cannot start must not affect the others
            unexpected = not isinstance(error, OSError)
            said = type(error).__name__ if unexpected else str(error)
            if said != self.start_error:
                logger.error("%s cannot be started: %s", self.role.name, said, exc_info=unexpected)  # noqa: TRY400
            self.start_error = said
            self.life = lifecycle.ended(self.life, now, cap_s=self.role.retry_cap_s)
            return
        self.start_error = None
        self.news.begin(now)
        self._first_due = None
        self._measure_at = now + MEASURE_EVERY_S if self.role.max_memory_mb else None
        if self.role.max_restarts and self.life.restarts > self.role.max_restarts:
            logger.warning("%s has been restarted %d times, more than max_restarts (%d)",
                           self.role.name, self.life.restarts, self.role.max_restarts)  # fmt: skip

    def _start(self) -> Incarnation:
        generation = next(self._generations)
        role = self.role
        spec = ChildSpec(
            role=role.role,
            source=role.source,
            generation=generation,
            body=role.body,
            parent_pid=os.getpid(),
            token=make_token(self._key, role.role, role.source, generation),
            log=self._log,
            secrets=role.secrets,
            first_due=self._first_due,
            log_path=self._log_path,
        )
        return Incarnation.start(role, spec, self._output)

    def listen(self, now: float) -> None:
        """Read the child's messages."""
        self._log_output(self._output.take(now))
        if self._process is None or not self._process.is_heard:
            return
        try:
            for message in self._process.receive():
                self._hear(message, now)
        except ProtocolError as error:
            logger.warning("%s: %s; it is killed", self.role.name, error)
            self.kill()
        except Exception:  # last resort: a plugin can write to its worker's channel, and may send anything
            logger.exception("%s: what it says cannot be understood; it is killed", self.role.name)
            self.kill()
        self._process.flush()

    def say(self, message: Mapping[str, object]) -> bool:
        """Send the child a message; return False if there is no child to read it."""
        return self._process is not None and self._process.say(message)

    def take_results(self) -> list[Frame]:
        """Return the answers to commands since the last call."""
        results, self._results = self._results, []
        return results

    def reap(self, now: float, jitter: float, *, stopping: bool = False) -> bool:
        """Check whether the process has ended, and handle its end; return whether it has.

        Args:
            now: Monotonic seconds.
            jitter: Added to the pause before the next start, as a share of it.
            stopping: All processes are being stopped. A SIGTERM to the whole group ends the writer too early; it is
                started again, because reports may still come until the server has ended.
        """
        if self._process is None or (code := self._process.exit_code) is None:
            return False
        self.listen(now)
        self._log_output(self._output.detach(now))
        self._process.close()
        self._process = None
        self._measure_at = self._unheard_at = None
        self.last_exit = describe_exit(code)
        served_long = self.life.state is State.RUNNING and now - self.life.since >= USEFUL_AFTER_S
        if served_long and self.role.source is None:
            self.life = prove_useful(self.life)
        self.life = lifecycle.ended(
            self.life, now,
            misconfigured=code == ExitStatus.CONFIGURATION, cap_s=self.role.retry_cap_s, jitter=jitter,
        )  # fmt: skip
        if self.life.state in {State.BACKOFF, State.FATAL} and not self.life.is_replaced:
            self.last_words = self._output.last_words()
        self._log_exit(now, in_order=self.life.is_replaced or (stopping and code == 0))
        return True

    def stop(self, now: float, grace_s: float) -> None:
        """Tell the process to end; it is killed if it still runs after `grace_s` seconds."""
        self.life = lifecycle.asked_to_stop(self.life, now, grace_s)
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the process at once."""
        self._signal(signal.SIGKILL)

    def abort(self, now: float, why: str) -> None:
        """End a hanging process in a way that makes it write its traceback into the log."""
        logger.error("%s (pid %s) %s; traceback follows%s", self.role.name, self.pid, why, self._blame())
        self.life = lifecycle.found_hanging(self.life, now)
        self._signal(signal.SIGABRT)

    def restart(self, now: float, grace_s: float) -> None:
        """End this incarnation in order; the next one follows at once, and earlier crashes are forgotten."""
        if self._process is None:
            self.life = prove_useful(self.life)
            self.spawn(now)
        else:
            self.life = lifecycle.asked_to_restart(self.life, now, grace_s)
            self._signal(signal.SIGTERM)

    def check_deadlines(self, now: float, *, may_restart: bool) -> None:
        """Abort the process if it hangs, kill it if it does not end, start it again if its delay is over."""
        if self._measure_at is not None and now >= self._measure_at:
            self._check_memory(now)
        if self._process and not self._process.is_heard and self._unheard_at is None:
            self._unheard_at = now + UNHEARD_S
        elif self._unheard_at is not None and now >= self._unheard_at:
            self._unheard_at = None
            logger.error("%s (pid %s) is not heard any more; it is killed", self.role.name, self.pid)
            self.kill()
        action = next_action(self.life, now, may_restart=may_restart)
        if action is Action.KILL:
            logger.warning("%s (pid %s) does not end; it is killed", self.role.name, self.pid)
            self.life = lifecycle.killed(self.life, now)
            self.kill()
        elif action is Action.ABORT:
            if lacks_processor(self.pid, lifecycle.START_PROCESSOR_S):
                self.life = lifecycle.gave_time(self.life, now)
            if next_action(self.life, now, may_restart=may_restart) is Action.ABORT:
                self.abort(now, "gives no sign of life")
        elif action is Action.SPAWN:
            self.spawn(now)

    def _hear(self, message: Frame, now: float) -> None:
        self.news.last_sign_at = now
        kind, within_s, values = message.get("kind"), message.get("within_s"), message.get("values")
        if kind == "ready":
            self.life = lifecycle.became_ready(self.life, now)
        elif kind == "beat" and isinstance(within_s, int | float):
            self.life = lifecycle.gave_sign(self.life, now, within_s)
        elif kind == "words":
            self._output.remember(str(message.get("text")))
        elif kind == "result" and len(self._results) < _MAX_RESULTS:
            self._results.append(message)
        elif kind == "report" and isinstance(values, dict):
            due = self.news.take(values, now)
            if values.get("useful"):
                self.life = prove_useful(self.life)
            if due is not None:
                self._replace_if_large(now, due)

    def _replace_if_large(self, now: float, due: float) -> None:
        """Replace a source's process that holds too much, between two cycles; the next one keeps to the timetable."""
        limit_mb, used_mb = self.role.max_memory_mb, self._resident_mb()
        if limit_mb and used_mb > limit_mb and self.life.kill_at is None:
            logger.info("%s holds %.0f MB, more than max_memory_mb (%d)", self.role.name, used_mb, limit_mb)
            self.recycled += 1
            self.restart(now, RECYCLE_GRACE_S)
            self._first_due = due

    def _check_memory(self, now: float) -> None:
        self._measure_at = now + MEASURE_EVERY_S
        limit_mb, used_mb = self.role.max_memory_mb, self._resident_mb()
        if limit_mb and is_far_over(used_mb, limit_mb):
            logger.error("%s holds %.0f MB, more than max_memory_mb (%d); it is killed%s",
                         self.role.name, used_mb, limit_mb, self._blame())  # fmt: skip
            self.recycled += 1
            self.kill()

    def _resident_mb(self) -> float:
        return resident_mb(self.pid) if self.pid and self.role.max_memory_mb else 0.0

    def _log_output(self, heard: Heard) -> None:
        if heard.lines:
            logger.warning("%s writes:\n%s", self.role.name, "\n".join(heard.lines))
        if heard.prints:
            logger.debug("%s prints:\n%s", self.role.name, "\n".join(heard.prints))
        if heard.printed and not logger.isEnabledFor(logging.DEBUG):
            logger.info("%s %s", self.role.name, PRINTED % heard.printed)

    def _signal(self, number: signal.Signals) -> None:
        if self._process:
            self._process.signal(number)

    def _log_exit(self, now: float, *, in_order: bool) -> None:
        name, state = self.role.name, self.life.state
        if state is State.STOPPED:
            logger.info("%s has ended (%s)", name, self.last_exit)
        elif state is State.FATAL:
            logger.error("%s cannot run with this configuration; correct it and run: pylantir-supervisor reload", name)
        elif in_order:
            logger.info("%s has ended (%s) and is started again", name, self.last_exit)
        else:
            in_s = max(0.0, (self.life.retry_at or now) - now)
            logger.warning("%s ended unexpectedly (%s); restart %d in %.1f s%s", name, self.last_exit,
                           self.life.restarts + 1, in_s, self._blame())  # fmt: skip

    def _blame(self) -> str:
        return f"; {self.role.plugin}" if self.role.plugin else ""

    def replace_role(self, role: Role, log: LogSettings) -> None:
        """Set the role of the next incarnation."""
        self.role, self._log = role, log
