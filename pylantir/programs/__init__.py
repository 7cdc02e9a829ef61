"""Starts the two programs, reads their command lines, and keeps a second instance out."""
