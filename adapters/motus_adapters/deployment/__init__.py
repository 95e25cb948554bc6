"""A trained policy for one robot: the bundle on disk, and what guards its numbers."""
