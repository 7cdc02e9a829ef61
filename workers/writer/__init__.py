"""The writer: the only process that writes to the worklist database."""
