"""The worklist database: identity and priority, writing, reading."""
