"""`pylantir explain`: why a scanner does or does not get an item, and what it asked last."""
