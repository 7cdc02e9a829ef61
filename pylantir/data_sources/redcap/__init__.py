"""The REDCap source."""
