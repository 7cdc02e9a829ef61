"""Text in the character set of a scanner."""
