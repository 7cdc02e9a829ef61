"""Changes that do not come from a source: reports of scanners, commands, retention."""
