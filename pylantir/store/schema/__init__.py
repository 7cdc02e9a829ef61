"""The tables, and the modules that open, create, upgrade and protect them."""
