"""`pylantir`: shows and checks the data; starts no process. Turns an error into a line and an exit status."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from pylantir.cli.program.options import Run, make_parser
from pylantir.errors import ExitStatus, PylantirError
from pylantir.programs.failure import tell_failure
from pylantir.programs.streams import complete_standard_streams


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    import logging

    complete_standard_streams()
    options = make_parser().parse(arguments)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(message)s")
    # Its warnings about the form of a value answer no command.
    logging.getLogger("pydicom").setLevel(logging.ERROR)
    command: Run = options.run
    try:
        status = command(options)
        sys.stdout.flush()
        if hasattr(options, "shown"):
            from pylantir.cli.accesses.shown import tell_shown

            tell_shown(options, status)
    except BrokenPipeError:
        # The reader (`head`, say) has closed the pipe; the interpreter's own flush at its end would print an error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitStatus.FAILURE
    except (PylantirError, OSError) as error:
        return tell_failure("pylantir", error)
    except KeyboardInterrupt:
        return ExitStatus.FAILURE
    return status


if __name__ == "__main__":
    sys.exit(main())
