"""The processes of Pylantir: supervisor, writer, worklist server, source workers."""
