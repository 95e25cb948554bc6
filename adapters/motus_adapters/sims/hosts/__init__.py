"""What runs inside a simulator's own environment: nothing here may import motus or torch."""
