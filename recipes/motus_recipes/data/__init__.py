"""What training reads: sources, windows, mixtures, and what is computed once and kept."""
