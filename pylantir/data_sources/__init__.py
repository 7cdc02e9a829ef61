"""Data sources: the plugin interface, the built-in sources and the registry of source types."""
