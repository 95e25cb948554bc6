"""Robot model files: found, read, written, and what they state."""
