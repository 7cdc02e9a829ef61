"""Mutated bytes on the raw port; `python -m tests.fuzz --minutes 60` for long."""
