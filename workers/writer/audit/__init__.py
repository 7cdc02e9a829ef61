"""Audit messages: what they say of what happens, and how they get to the audit repository."""
