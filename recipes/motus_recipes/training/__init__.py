"""One loop for every stage: what is trained, how a step is computed, what is kept."""
