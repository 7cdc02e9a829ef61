"""What the bytes and lines of a source say. Pure, or a stream in and a stream out; no module here knows a plugin."""
