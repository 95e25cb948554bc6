"""Whether a dataset can be learned from, and what is wrong with it."""
