"""Pure decisions about records and items; nothing here uses the database."""
