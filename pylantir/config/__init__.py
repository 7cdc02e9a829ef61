"""Finds the configuration file, checks it, and turns it into the settings that the processes receive.

`locate` is cheap and used by every command; `loading` needs pydantic and runs in a short-lived process.
"""
