"""What a working set consists of: what it has read, who owns the numbers, and what it will write."""
