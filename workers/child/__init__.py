"""What every child process has: its start, its channel to the supervisor, its log, its connection to the writer."""
