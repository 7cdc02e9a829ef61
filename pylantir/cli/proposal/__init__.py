"""`pylantir init --from DATA`: a configuration proposed from an export's header and data."""
