"""A source worker: runs one plugin and streams its records to the writer."""
