"""The DICOM server: answers C-ECHO and C-FIND from the database, and hands MPPS reports to the writer."""
