"""Reads file formats. Each module is pure, or turns a stream into a stream; none depends on a plugin."""
