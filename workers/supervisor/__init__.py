"""The supervisor: starts, watches, restarts and stops every other process; owns no data."""
