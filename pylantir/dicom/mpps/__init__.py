"""MPPS over DICOM: the service, the client, and datasets as JSON."""
