"""Optical flow of the canvas: estimators and arithmetic."""
