"""Experiments: grids of runs whose measured results docs/results/ shows."""
