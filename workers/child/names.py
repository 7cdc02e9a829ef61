"""Names a process for `ps` and `top`."""

from __future__ import annotations

import setproctitle


def set_names(role: str, source: str | None = None) -> None:
    """Set what `ps` shows, and the 15 characters that `top` shows.

    The first call must come before the process changes its environment: setproctitle finds the place of the title by
    the environment that the process was started with.
    """
    setproctitle.setproctitle(f"pylantir: source {source}" if source else f"pylantir: {role}")
    # After the title, which sets the short name, too.
    setproctitle.setthreadtitle(f"pyl:{source or role}"[:15])
