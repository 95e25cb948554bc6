"""The unified dataset on disk: written whole or not at all, read lazily."""
