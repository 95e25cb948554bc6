"""Pages, plots and films: what a person looks at."""
