"""Talking DICOM: associations, presentation contexts, PDUs, TLS."""
