"""Audit messages for a hospital's audit repository: what they say, and how they are packed for syslog."""
