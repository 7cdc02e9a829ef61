"""DICOMweb for worklist and MPPS: the same matching and the same rules as over an association."""
