"""A run of one configuration: its lock, its sockets, the supervisor in between, and what is removed at the end.

Lives in the supervisor. It holds the listening sockets, so that scanners and sources wait in a queue, instead of being
refused, while a child restarts.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from pylantir.config.locate import forget_runtime_dir, make_private_directory, remember_runtime_dir
from pylantir.errors import ExitStatus
from pylantir.ipc.control import SOCKET_NAME
from pylantir.ipc.sockets import listen_at
from pylantir.settings import Settings
from workers.child.logs import configure_logging
from workers.supervisor.listening import listen_for_scanners
from workers.supervisor.locks import FileLock
from workers.supervisor.loop import Supervisor
from workers.supervisor.notify import Notifier
from workers.supervisor.orphans import hear_of_deaths
from workers.supervisor.roles import QUEUE_SOCKET_NAME
from workers.supervisor.signals import Signals

logger = logging.getLogger(__name__)


def supervise(settings: Settings, overrides: Mapping[str, object], signals: Signals) -> ExitStatus:
    """Run an instance until it is told to stop.

    Raises:
        AlreadyRunning: Another instance of this configuration runs.
        PylantirError: The port or the runtime directory cannot be used.
    """
    configure_logging(settings.log, process="supervisor")
    for warning in settings.warnings:
        logger.warning("%s", warning)
    runtime_dir = Path(settings.runtime_dir)
    config_path = Path(settings.config_path)
    with ExitStack() as cleaning:
        make_private_directory(runtime_dir)
        lock = FileLock(runtime_dir / "supervisor.lock")
        lock.acquire("this configuration is being served already")
        cleaning.callback(lock.release)
        dicom = cleaning.enter_context(listen_for_scanners(settings.dicom))
        queue = cleaning.enter_context(listen_at(runtime_dir / QUEUE_SOCKET_NAME))
        control = cleaning.enter_context(listen_at(runtime_dir / SOCKET_NAME))
        for name in (QUEUE_SOCKET_NAME, SOCKET_NAME):
            cleaning.callback((runtime_dir / name).unlink, missing_ok=True)
        remember_runtime_dir(config_path, runtime_dir, os.environ)
        cleaning.callback(forget_runtime_dir, config_path, os.environ)
        notifier = Notifier(os.environ, os.getpid())
        cleaning.callback(notifier.close)
        hear_of_deaths()
        supervisor = Supervisor(
            settings, overrides, signals, queue=queue, dicom=dicom, control=control, notifier=notifier
        )
        status = supervisor.run()
    if status is not ExitStatus.OK:
        logger.error("ended with status %d", status)
        logging.shutdown()
        # At its end the interpreter would wait for a child that cannot be killed (a share that is gone, say).
        os._exit(status)
    logger.info("stopped")
    return status
