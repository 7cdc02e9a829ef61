"""Talking DICOM: connections, associations, presentation contexts, messages, and what is refused."""
