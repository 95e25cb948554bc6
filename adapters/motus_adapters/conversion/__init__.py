"""From recordings to a unified dataset: cameras, canvas, canonical numbers, the mapping."""
