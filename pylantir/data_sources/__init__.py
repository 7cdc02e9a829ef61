"""What entries are fetched from: the plugin interface, the built-in sources and the registry of types."""
