"""The tables: how they are opened, created, completed and guarded."""
