"""Runs one configuration: takes its lock and sockets, runs the supervisor, and cleans up at the end.

Lives in the supervisor. It holds the listening sockets, so that scanners and sources wait in a queue, instead of being
refused, while a child restarts.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from pylantir.errors import ExitStatus
from pylantir.settings import Settings
from workers.child.log_file import LogFile
from workers.child.logs import configure_logging
from workers.supervisor.children.orphans import hear_of_deaths, inherit_orphans
from workers.supervisor.children.resources import raise_descriptor_limit
from workers.supervisor.listening import listen_for_browsers, listen_for_scanners
from workers.supervisor.loop import Supervisor
from workers.supervisor.names import Names
from workers.supervisor.notify import Notifier
from workers.supervisor.signals import Signals

logger = logging.getLogger(__name__)


def supervise(
    settings: Settings,
    environ: Mapping[str, str],
    overrides: Mapping[str, object],
    signals: Signals,
    log_path: Path | None = None,
) -> ExitStatus:
    """Run an instance until it is told to stop.

    Args:
        settings: The checked configuration.
        environ: The environment of the start, secrets too.
        overrides: From the command line.
        signals: The signals since the start.
        log_path: The log file; None: the log goes to standard error.

    Raises:
        AlreadyRunning: Another instance of this configuration runs.
        PylantirError: The port or the runtime directory cannot be used.
    """
    configure_logging(settings.log, process="supervisor", secrets=settings.secrets)
    log_file = LogFile(log_path, 1, 2) if log_path else None
    raise_descriptor_limit()
    for warning in settings.warnings:
        logger.warning("%s", warning)
    with ExitStack() as cleaning:
        names = Names(Path(settings.config_path), Path(settings.runtime_dir), os.environ)
        cleaning.callback(names.give_up)
        dicom = cleaning.enter_context(listen_for_scanners(settings.dicom))
        http = listen_for_browsers(settings.http)
        if http:
            cleaning.enter_context(http)
        notifier = Notifier(os.environ, os.getpid())
        cleaning.callback(notifier.close)
        hear_of_deaths()
        inherit_orphans()
        supervisor = Supervisor(
            settings, environ, overrides, signals,
            names=names, log_file=log_file, dicom=dicom, http=http, notifier=notifier,
        )  # fmt: skip
        status = supervisor.run()
    if status is not ExitStatus.OK:
        logger.error("ended with status %d", status)
        logging.shutdown()
        # At its end the interpreter would wait for a child that cannot be killed (its network share is gone, say).
        os._exit(status)
    logger.info("stopped")
    return status
