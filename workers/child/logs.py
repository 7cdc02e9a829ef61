"""Log lines on stderr, one per event: time, level, process, source, message; as text or as JSON lines.

Called once by each process at its start.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from types import TracebackType

from pylantir.errors import traceback_of
from pylantir.printing import make_redactor, printable
from pylantir.settings import LogSettings
from workers.child.log_output import LogOutput

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]

_QUIET = {"pynetdicom": logging.ERROR, "pydicom": logging.ERROR, "urllib3": logging.WARNING}


class _Formatter(logging.Formatter):
    """Common to both forms: UTC times, no secret, and no exception's message that may quote a patient.

    Args:
        process: The process's role.
        source: The source's name in a source worker.
        secrets: Values that no line may show.
        messages: Show the messages of all exceptions.
    """

    def __init__(self, process: str, source: str | None, secrets: Sequence[str], *, messages: bool = False) -> None:
        super().__init__()
        self._messages = messages
        self.process = process
        self.source = source
        self._strike_out = make_redactor(secrets)

    def text_of(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return self._strike_out(text)

    def formatException(self, ei: ExcInfo) -> str:  # noqa: N802 - logging's name
        """Format an exception."""
        error = ei[1]
        return super().formatException(ei) if self._messages or error is None else traceback_of(error)

    def time_of(self, record: logging.LogRecord) -> str:
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        return f"{seconds}.{int(record.msecs):03d}Z"


class TextFormatter(_Formatter):
    """`2026-01-26T08:00:00.123Z INFO    source site_b_csv: message`; a traceback's lines are indented."""

    def format(self, record: logging.LogRecord) -> str:
        """Format one event."""
        who = f"{self.process} {self.source}" if self.source else self.process
        text = "\n    ".join(map(printable, self.text_of(record).split("\n")))
        return f"{self.time_of(record)} {record.levelname:<7} {who}: {text}"


class JsonFormatter(_Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """Format one event."""
        event = {
            "time": self.time_of(record),
            "level": record.levelname,
            "process": self.process,
            "source": self.source,
            "logger": printable(record.name),
            "message": "\n".join(map(printable, self.text_of(record).split("\n"))),
        }
        return json.dumps(event, ensure_ascii=False)


class _Repeater(logging.Handler):
    """Passes errors on to a function."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__(logging.ERROR)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        """Pass on one event."""
        self._tell(self.format(record))


def configure_logging(
    settings: LogSettings,
    *,
    process: str,
    source: str | None = None,
    secrets: Sequence[str] = (),
    fd: int = 2,
    tell_errors: Callable[[str], None] | None = None,
) -> None:
    """Send this process's log to stderr.

    Args:
        settings: Form and level.
        process: `supervisor`, `writer`, `mwl-scp` or `source`.
        source: The source's name in a source worker.
        secrets: Values that no line may show.
        fd: The descriptor to write to.
        tell_errors: Also gets every error, as text.
    """
    formatter = JsonFormatter if settings.format == "json" else TextFormatter
    handler = LogOutput(fd)
    messages = settings.level == "DEBUG"
    handler.setFormatter(formatter(process, source, secrets, messages=messages))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    if tell_errors:
        repeater = _Repeater(tell_errors)
        repeater.setFormatter(TextFormatter(process, source, secrets, messages=messages))
        root.addHandler(repeater)
    root.setLevel(settings.level)
    for name, level in _QUIET.items():
        logging.getLogger(name).setLevel(level)
    # A warning of a plugin's library may quote a value: it is a print like any other, which is counted.
    logging.captureWarnings(capture=source is None or messages)
