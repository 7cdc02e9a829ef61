"""The command line of `pylantir`: what may be written, and which module carries it out."""
