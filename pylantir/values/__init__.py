"""What becomes of a value that a source gave: its DICOM form, or the reason why it has none.

Pure. `normalise` is the way in; the other modules know a kind of value each. Used by source workers, by the
configuration check (for constants) and by the upgrade of old files.
"""
