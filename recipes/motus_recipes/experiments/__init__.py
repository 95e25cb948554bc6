"""Experiments: grids of runs whose measured results docs/results.md shows."""
