"""`pylantir explain`: says why a scanner does or does not get an item, and shows the scanner's last query."""
