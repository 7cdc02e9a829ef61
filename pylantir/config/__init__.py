"""The configuration: which file, what it may say, and the checked values that the processes get.

`locate` is cheap and used by every command; `loading` needs pydantic and runs in a short-lived process.
"""
