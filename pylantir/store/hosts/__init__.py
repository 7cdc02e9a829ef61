"""The hosts of one database: whose word counts, who fetches which source, and whether the database still knows it."""
