"""Stores the cycles of the sources: one transaction per frame."""
