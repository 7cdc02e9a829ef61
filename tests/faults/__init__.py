"""System calls that fail once, in the running program; `make faults` for long."""
