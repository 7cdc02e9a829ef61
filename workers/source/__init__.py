"""A source worker: runs one plugin and streams what it gives to the writer."""
