"""The worklist over HTTP: pages for people, DICOMweb for programs, metrics for machines."""
