"""The worklist as DICOM: queries read, responses made, associations served."""
