"""`python -m pylantir` is `pylantir`."""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    # Python has put the working directory first; remove it, so that no file in it is imported as a module.
    if not sys.flags.safe_path and sys.path and os.path.realpath(sys.path[0]) == os.path.realpath("."):
        del sys.path[0]
    from pylantir.programs.begin import run_pylantir

    sys.exit(run_pylantir())
