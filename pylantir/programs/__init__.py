"""Starts the two programs and reads their command lines."""
