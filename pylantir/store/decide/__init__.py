"""What a group of records amounts to: pure decisions, without a database."""
