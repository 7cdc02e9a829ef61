"""The web process: pages, DICOMweb and metrics over HTTP."""
