"""Answering a worklist query: matching, and encoding the answers."""
