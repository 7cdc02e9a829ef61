"""The parts of every child process: start, channel to the supervisor, log, connection to the writer."""
