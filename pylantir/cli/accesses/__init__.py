"""Who was shown what: listed, and told by the commands."""
