"""Pylantir: a DICOM modality worklist fed from many sources. The library: it computes and starts nothing."""
