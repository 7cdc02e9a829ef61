"""Where the two programs begin, and how they read their command lines."""
