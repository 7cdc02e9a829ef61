"""What scanners report about their work (MPPS): its values and its rules, free of DICOM libraries and databases."""
