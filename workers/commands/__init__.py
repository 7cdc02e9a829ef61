"""The commands of pylantir-supervisor."""
